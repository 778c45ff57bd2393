"""How PyTorch's threads wait for each other: asleep, so that a busy machine stays fast."""

from __future__ import annotations

import os

_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")  # whoever sets one of them has chosen
_TURNS = "1000"  # some microseconds


def wait_asleep() -> None:
    """Let the threads sleep soon, unless the user has said how they wait; to be called before PyTorch is loaded.

    GNU's OpenMP, which PyTorch has on Linux, lets them spin for milliseconds. Where another program has taken the core
    of a thread, the others then burn the time in which it could go on.
    """
    if not any(name in os.environ for name in _CHOICES):
        os.environ["GOMP_SPINCOUNT"] = _TURNS
