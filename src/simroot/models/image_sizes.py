"""How the image size changes networks that were drawn for 32 pixels: a stem that strides, one more grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simroot.errors import ConfigError
from simroot.models.building import ImageSize, require_positive
from simroot.models.registry import list_models, model_entry

STAGES = 3
_ARGUMENT = "drawn_for"


@dataclass(frozen=True)
class Plan:
    """What of a network depends on the size of its images.

    Attributes:
        stride: step of the first convolution.
        grids: stages, each on half the grid of the one before; from the third on they have 4c channels.
    """

    stride: int = 1
    grids: int = STAGES

    @property
    def kernel_size(self) -> int:
        """Side of the first convolution's filters, larger than its step."""
        return max(3, self.stride + 1)


def plan(image_size: ImageSize) -> Plan:
    """The plan for images of so many pixels a side, the shorter one if they are not square.

    Below 48 pixels the step is 1 and there are three grids; from there on it is 2, and from 112 on 4, with four grids.
    So the first grid has 24 to 56 pixels for images of 48 to 224, and the last layer sees most of an image.
    """
    side = _shorter(image_size)
    if side < 48:
        return Plan()
    return Plan(2 if side < 112 else 4, STAGES + 1)


def drawn(model: str, image_size: ImageSize, drawn_for: int | None, *, last: int = 1) -> Plan:
    """The plan of a network: that of its images, or of the size that it is drawn for.

    Args:
        model: its name.
        image_size: of its images.
        drawn_for: another size, or None.
        last: pixels that the last grid must have.

    Raises:
        ConfigError: if ``drawn_for`` is no size, or the images are too small for its grids.
    """
    if drawn_for is None:
        return plan(image_size)
    require_positive(model, drawn_for=drawn_for)
    found = plan(drawn_for)
    if _shorter(image_size) < (smallest := found.stride * 2 ** (found.grids - 1) * last):
        raise ConfigError(
            f"{model} drawn for {drawn_for} pixels needs images of at least {smallest}; got image_size {image_size}"
        )
    return found


def recorded(model: str, image_size: ImageSize, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides as a run records them: with the size that the network is drawn for, where it is not that of 32."""
    if plan(image_size) == Plan() or not _follows(model):
        return dict(overrides)
    return {_ARGUMENT: _shorter(image_size), **overrides}


def read_back(model: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Recorded overrides for the builder: runs that do not say otherwise are drawn for 32 pixels, as all once were."""
    return {_ARGUMENT: 32, **overrides} if _follows(model) else dict(overrides)


def _follows(model: str) -> bool:
    """Whether a network follows the image size; one that is not registered is for its builder to refuse."""
    return model in list_models() and _ARGUMENT in model_entry(model).overrides


def _shorter(image_size: ImageSize) -> int:
    return image_size if isinstance(image_size, int) else min(image_size)
