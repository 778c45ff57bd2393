"""What a layer promises that is simpler once training is over."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Foldable(Protocol):
    """A module that knows a simpler one with the same outputs in evaluation; anyone's layer may have the method.

    ``simroot.models.deploy`` puts ``folded()`` in the module's place and does not look inside what it is given. So do
    all that use it: export, the count of costs, timing.
    """

    def folded(self) -> nn.Module:
        """A module of its own with the outputs of this one in evaluation; this one stays as it is."""
        ...
