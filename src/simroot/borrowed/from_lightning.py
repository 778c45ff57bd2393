"""What Lightning has no public name for."""

from __future__ import annotations

import signal

import lightning as L
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

__all__ = ["leave_other_signals"]


class _Signals(_SignalConnector):
    def teardown(self) -> None:
        self._original_handlers = {
            number: handler
            for number, handler in self._original_handlers.items()
            if signal.getsignal(number) != handler
        }
        super().teardown()


def leave_other_signals(trainer: L.Trainer) -> None:
    """After a training, only the signals that have changed are put back.

    Lightning's own way puts every signal back as Python knows it. Python does not know the handlers that C code has
    set, faulthandler's among them: after a training a crash would say nothing.
    """
    trainer._signal_connector = _Signals(trainer)
