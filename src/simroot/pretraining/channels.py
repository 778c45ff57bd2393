"""A pre-trained network of a registered shape, its numbers of channels as given or chosen from the data."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from simroot.errors import ConfigError, DataError
from simroot.estimators import Whitening, select_components
from simroot.models import create_model, model_entry
from simroot.models.simnets.architecture import SimNet
from simroot.pretraining.forward import Sweep
from simroot.pretraining.layers import EM_TOLERANCE, LEAST_SCALE, layer_at, require_simnet
from simroot.pretraining.patches import ImageBatches
from simroot.pretraining.report import Curve, Report

CANDIDATES = (8, 12, 16, 24, 32, 48, 64, 96)
# A mixture is fitted for every candidate: on this many patches.
_SELECTION = 20_000


def build(
    name: str,
    images: ImageBatches,
    *,
    num_classes: int,
    in_channels: int,
    generator: torch.Generator,
    overrides: Mapping[str, Any] | None = None,
    channels: Literal["auto"] | None = None,
    dimension: str | float = "bayes",
    components: str = "bic",
    candidates: Sequence[int] = CANDIDATES,
    **options: Any,
) -> tuple[nn.Module, dict[str, Any], Report]:
    """Create a registered SimNet and initialise it from images.

    With ``channels="auto"`` the channels of every layer are chosen on the patches that the layer meets, from the first
    layer on: those of the convolution by the dimension of the patches (section 5; ``Whitening``'s criteria), those of
    the similarity by the number of components of the whitened patches (``select_components``). Both are rounded up to
    what the layer's groups divide.

    Args:
        name: of the network in the registry.
        images: as ``initialise``'s.
        num_classes: as ``create_model``'s.
        in_channels: likewise.
        generator: as ``initialise``'s. Weights that are not estimated come from torch's global generator.
        overrides: arguments of the network's builder.
        channels: ``"auto"``, or None for those of the network.
        dimension: ``"bayes"``, ``"mle"`` or a share of the patches' variance.
        components: ``"nec"``, ``"bic"`` or ``"aic"``.
        candidates: numbers of templates to choose from.
        **options: the other arguments of ``initialise``.

    Returns:
        The network, the overrides that it was created with, and the report.

    Raises:
        ConfigError: as ``initialise``; for channels to choose in a network whose builder cannot be given them.
        DataError: as ``initialise``.
    """
    if channels not in (None, "auto"):
        raise ConfigError(f"channels is {channels!r}; expected 'auto' or None")
    chosen = dict(overrides or {})
    model = require_simnet(create_model(name, num_classes, in_channels, **chosen))
    sweep = Sweep(images, **options, generator=generator)
    curves: list[Curve] = []
    with sweep.progress:
        for index in range(len(model.similarities)):
            patches = sweep.layer_patches(model, index)
            if channels == "auto":
                found = choose(model, index, patches, sweep.seed(), dimension, components, candidates)
                curves += found
                chosen |= _with_counts(name, model, index, *(curve.chosen for curve in found))
                model = _rebuilt(model, index, create_model(name, num_classes, in_channels, **chosen))
            sweep.layer(model, index, patches)
        sweep.classification(model)
    return model, chosen, sweep.report(curves)


def choose(
    model: SimNet,
    index: int,
    patches: Tensor,
    seed: int,
    dimension: str | float,
    components: str,
    candidates: Sequence[int],
) -> tuple[Curve, Curve]:
    """The numbers of filters and templates that a layer's patches (n, C, k, k) ask for.

    Grouped layers get the number of their first group in every group, rounded up to what all groups divide.
    """
    layer = f"similarities.{index}"
    stages = model.stage_specs
    groups, similarity_groups = stages[index].groups, stages[index].similarity_groups
    next_groups = stages[index + 1].groups if index + 1 < len(stages) else 1
    rows = patches.chunk(groups, 1)[0].flatten(1)
    whitening = Whitening(dimension, random_state=seed).fit(rows)
    filters = _multiple(whitening.n_components_ * groups, math.lcm(groups, similarity_groups))
    # Patches come in the order of the images, which may be that of their classes.
    white = whitening.transform(rows[:: -(-len(rows) // _SELECTION)])
    white = white[:, : max(white.shape[1] // similarity_groups, 1)]
    possible = [count for count in candidates if count < len(white)]
    if not possible:
        raise DataError(f"{len(white)} patches are too few for any of {tuple(candidates)} templates; give more patches")
    order = layer_at(model, index).similarity.order
    shape = None if isinstance(order, Tensor) else float(order)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        selection = select_components(
            white, possible, components, shape=shape, min_scale=LEAST_SCALE, tol=EM_TOLERANCE, random_state=seed
        )
    values = tuple(float(value) for value in whitening.dimension_curve_)
    criterion = str(dimension) if isinstance(dimension, str) else "share of variance"
    return (
        Curve(layer, "whitened", criterion, tuple(range(1, len(values) + 1)), values, filters),
        Curve(
            layer,
            "templates",
            components,
            selection.candidates,
            selection.curves[components],
            _multiple(selection.n_components * similarity_groups, math.lcm(similarity_groups, next_groups)),
        ),
    )


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of


def _with_counts(name: str, model: SimNet, index: int, filters: int, templates: int) -> dict[str, Any]:
    """The overrides that give layer ``index`` these channels, and the others those that they have."""
    known = model_entry(name).overrides
    if not {"channels", "whitened"} <= set(known):
        raise ConfigError(f"{name} has no channels and whitened to choose; expected a network such as simnet2")
    sizes = [[stage.whitened, stage.templates] for stage in model.stage_specs]
    sizes[index] = [filters, templates]
    whitened, channels = (list(each) for each in zip(*sizes, strict=True))
    single = len(sizes) == 1
    return {"whitened": whitened[0] if single else whitened, "channels": channels[0] if single else channels}


def _rebuilt(before: SimNet, index: int, fresh: nn.Module) -> SimNet:
    """A fresh network with the layers that another has initialised already, up to ``index``."""
    model = require_simnet(fresh)
    for name in ("whitenings", "similarities", "pools"):
        for place, module in enumerate(getattr(before, name)[:index]):
            getattr(model, name)[place] = module
    model.whitenings[index] = before.whitenings[index]
    return model
