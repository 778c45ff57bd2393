"""What a pre-training did, layer by layer, as plain values and for tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class LayerReport:
    """A conv -> l_p-sim layer after its initialisation.

    Attributes:
        name: of the layer, as in ``named_modules()``.
        patch: shape (C, k, k) of the patches that it meets.
        patches: number of patches that it was estimated on.
        groups: filter groups, each whitened on its own.
        whitened: filters of all groups.
        explained: share of the patches' variance in the directions kept, of each group.
        templates: templates of all groups of the similarity.
        shape: of the mixture, of each group of the similarity.
        log_likelihood: mean of a whitened patch, nats, of each group of the similarity.
        iterations: of EM, likewise.
        converged: whether EM did, likewise.
        smallest: number of patches that the smallest component stands for.
        seconds: for sampling and fitting.
        filters: W, (whitened, C / groups, k, k).
        mean: the mean patch, (C, k, k).
        means: of the mixture's components in the whitened space, (templates, whitened / groups of the similarity).
        unwhitening: pseudo-inverses of the groups' filters, (groups, d, whitened / groups).
    """

    name: str
    patch: tuple[int, int, int]
    patches: int
    groups: int
    whitened: int
    explained: tuple[float, ...]
    templates: int
    shape: tuple[float, ...]
    log_likelihood: tuple[float, ...]
    iterations: tuple[int, ...]
    converged: tuple[bool, ...]
    smallest: float
    seconds: float
    filters: Tensor = field(repr=False)
    mean: Tensor = field(repr=False)
    means: Tensor = field(repr=False)
    unwhitening: Tensor = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The plain values, without the tensors."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if not isinstance(value, Tensor)
        }


@dataclass(frozen=True)
class Curve:
    """How a number of channels was chosen: a criterion over the candidates.

    Attributes:
        layer: name of the layer.
        what: ``"whitened"`` or ``"templates"``.
        criterion: its name.
        candidates: the numbers tried.
        values: of the criterion.
        chosen: the number that the network was built with.
    """

    layer: str
    what: str
    criterion: str
    candidates: tuple[int, ...]
    values: tuple[float, ...]
    chosen: int

    def as_dict(self) -> dict[str, Any]:
        """The plain values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


@dataclass(frozen=True)
class Report:
    """What ``initialise`` did.

    Attributes:
        images: number of images.
        scale: ``"tempered"`` or ``"likelihood"``.
        whitening: ``"ica"`` or ``"pca"``.
        offsets: where the classification offsets came from.
        layers: in the order of the network.
        seconds: for all of it.
        curves: how numbers of channels were chosen, if they were.
    """

    images: int
    scale: str
    whitening: str
    offsets: str
    layers: tuple[LayerReport, ...]
    seconds: float
    curves: tuple[Curve, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The plain values, as report.json has them."""
        parts = {name: [each.as_dict() for each in getattr(self, name)] for name in ("layers", "curves")}
        return {**vars(self), **parts}
