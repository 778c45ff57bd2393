"""The forward sweep: every conv -> l_p-sim layer in turn is estimated on what the layers before it put out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from simroot.errors import ConfigError, DataError
from simroot.layers import FoldedWhitening2d, WhitenedSimilarity2d
from simroot.models.simnets.architecture import SimNet
from simroot.modules import evaluating
from simroot.pretraining.layers import (
    Estimates,
    assign,
    estimate,
    layer_at,
    likelihood,
    measure_responses,
    require_simnet,
)
from simroot.pretraining.offsets import classify, normalise_scores
from simroot.pretraining.options import PATCHES, Method, Offsets, Scale
from simroot.pretraining.patches import ImageBatches, Window, layer_inputs, number_of, random_patches
from simroot.pretraining.report import Curve, LayerReport, Report
from simroot.untrusted.schema import require


class Sweep:
    """One pass over a network, layer by layer.

    Args:
        images: what ``initialise`` takes.
        generator: likewise.
        scale: likewise.
        whitening: likewise.
        offsets: likewise.
        patches: likewise.
        layers: likewise.
        progress: likewise.

    Raises:
        ConfigError: for an unknown choice or a number that is not positive.
        DataError: for images that cannot be used.
    """

    def __init__(
        self,
        images: ImageBatches,
        *,
        generator: torch.Generator,
        scale: Scale = "tempered",
        whitening: Method = "ica",
        offsets: Offsets = "keep",
        patches: int = PATCHES,
        layers: int | None = None,
        progress: bool = False,
    ) -> None:
        for name, value, choices in (
            ("scale", scale, Scale),
            ("whitening", whitening, Method),
            ("offsets", offsets, Offsets),
        ):
            require(value, choices, name)
        for name, number in (("patches", patches), ("layers", layers)):
            if number is not None and number < 1:
                raise ConfigError(f"{name} is {number}; expected a positive number")
        self.images, self.count = images, number_of(images)
        self.generator, self.scale, self.method, self.patches = generator, scale, whitening, patches
        self.progress = Progress(console=Console(stderr=True), disable=not progress)
        self.offsets, self.depth = offsets, layers
        self.found: Estimates | None = None
        self.started = time.perf_counter()
        self.layers: list[LayerReport] = []

    def seed(self) -> int:
        """A seed for an estimator."""
        return int(torch.randint(2**31, (), generator=self.generator))

    def sample(self, model: SimNet, before: nn.Module, window: Window, what: str) -> Tensor:
        """Random patches of what ``before`` receives; NaN in the padding."""
        task = self.progress.add_task(f"{what}: patches", total=self.count)
        with closing(layer_inputs(model, before, self.images, partial(self.progress.advance, task))) as inputs:
            return random_patches(inputs, window, self.patches, self.count, self.generator)

    def layer_patches(self, model: SimNet, index: int) -> Tensor:
        """Patches (n, C, k, k) as layer ``index`` convolves them, after setting the decorrelation in front of it."""
        whitening, layer = model.whitenings[index], layer_at(model, index)
        patches = self.sample(model, whitening, Window.of(layer.conv), f"layer {index + 1}")
        if patches.shape[1] != layer.conv.in_channels:
            raise DataError(f"images have {patches.shape[1]} channel(s); this network takes {layer.conv.in_channels}")
        if isinstance(whitening, FoldedWhitening2d):
            _decorrelate(whitening, patches)
            with torch.no_grad(), evaluating(whitening):
                patches = torch.cat([whitening(part) for part in patches.split(4096)])
        return patches.nan_to_num_(0.0)

    def layer(self, model: SimNet, index: int, patches: Tensor) -> None:
        """Initialise one layer from its patches; of those beyond ``layers`` only the statistics."""
        started = time.perf_counter()
        layer = layer_at(model, index)
        if self.depth is not None and index >= self.depth:
            self.found = None
            measure_responses(layer.conv, patches)
            return
        task = self.progress.add_task(f"layer {index + 1}: whitening and mixture", total=None)
        found = estimate(layer, patches, self.method, self.scale, self.seed())
        assign(layer, patches, found, self.scale)
        self.progress.update(task, total=1, completed=1)
        seconds = time.perf_counter() - started
        self.layers.append(_layer_report(f"similarities.{index}", layer, patches, found, seconds))
        self.found = found

    def classification(self, model: SimNet) -> None:
        """Set the statistics and the offsets of the classification, after the last layer."""
        samples = self.sample(model, model.norm, Window(), "classification").flatten(1)
        exact = likelihood(self.found.mixtures).constants if self.found and self.scale == "likelihood" else None
        normalise_scores(model, samples, exact)
        if self.offsets != "keep":
            task = self.progress.add_task("offsets", total=self.count)
            classify(model, self.images, self.offsets, self.seed(), partial(self.progress.advance, task))

    def report(self, curves: Sequence[Curve] = ()) -> Report:
        """What was done so far."""
        seconds = time.perf_counter() - self.started
        return Report(self.count, self.scale, self.method, self.offsets, tuple(self.layers), seconds, tuple(curves))


def initialise(
    model: nn.Module,
    images: ImageBatches,
    *,
    generator: torch.Generator,
    scale: Scale = "tempered",
    whitening: Method = "ica",
    offsets: Offsets = "keep",
    patches: int = PATCHES,
    layers: int | None = None,
    progress: bool = False,
) -> Report:
    """Initialise a SimNet from images, in place (Deep SimNets, section 5).

    Layer by layer from the image on: random patches of the layer's input are whitened, which gives the filters and
    biases; a generalised Gaussian mixture is fitted to the whitened patches, which gives templates, weights and, where
    the layer learns it, the order. No label is used unless ``offsets="labels"``.

    Args:
        model: a SimNet with conv -> l_p-sim layers, as ``create_model`` gives it.
        images: normalised images, a tensor (N, C, H, W) or a loader, which is gone through once a layer and once or
            twice more.
        generator: draws patches and seeds, on the CPU.
        scale: ``"likelihood"``: templates, weights and constants as section 5 has them, so that similarities are
            log-densities; ``"tempered"``: from the same estimates at a scale at which training is well conditioned.
        whitening: ``"ica"`` or ``"pca"``.
        offsets: of the classification: ``"keep"`` the model's random ones, or take them from ``"clusters"`` of the
            images or from ``"labels"`` (see ``simroot.pretraining.offsets.classify``).
        patches: number of patches sampled for every layer.
        layers: initialise so many layers, from the image on, and leave the others as they were drawn; None for all.
        progress: show progress on standard error.

    Raises:
        ConfigError: for a model without conv -> l_p-sim layers, or an unknown choice.
        DataError: for images that are not finite, too small or of other channels than the network's, patches that are
            all alike or too few, and labels that are missing or no classes of the network.
    """
    simnet = require_simnet(model)
    sweep = Sweep(
        images,
        generator=generator,
        scale=scale,
        whitening=whitening,
        offsets=offsets,
        patches=patches,
        layers=layers,
        progress=progress,
    )
    with sweep.progress:
        for index in range(len(simnet.similarities)):
            sweep.layer(simnet, index, sweep.layer_patches(simnet, index))
        sweep.classification(simnet)
    return sweep.report()


def _decorrelate(whitening: FoldedWhitening2d, patches: Tensor) -> None:
    """Set the statistics of the decorrelation to those of the patches' positions that are not padding."""
    rows = patches.movedim(1, -1).flatten(0, -2)
    rows = rows[rows[:, 0].isfinite()]
    momentum, training = whitening.momentum, whitening.training
    whitening.momentum = 1.0  # these rows count alone
    whitening.train()(rows[:, :, None, None])
    whitening.train(training).momentum = momentum


def _layer_report(
    name: str, layer: WhitenedSimilarity2d, patches: Tensor, found: Estimates, seconds: float
) -> LayerReport:
    conv, mixtures = layer.conv, found.mixtures
    count = len(patches)
    return LayerReport(
        name=name,
        patch=tuple(patches.shape[1:]),  # type: ignore[arg-type]
        patches=count,
        groups=conv.groups,
        whitened=conv.out_channels,
        explained=tuple(float(each.explained_variance_ratio_.sum()) for each in found.whitenings),
        templates=len(layer.similarity.templates),
        shape=tuple(mixture.shape_ for mixture in mixtures),
        log_likelihood=tuple(mixture.lower_bound_ for mixture in mixtures),
        iterations=tuple(mixture.n_iter_ for mixture in mixtures),
        converged=tuple(mixture.converged_ for mixture in mixtures),
        smallest=min(float(mixture.weights_.min()) for mixture in mixtures) * count,
        seconds=seconds,
        filters=found.filters.view(conv.out_channels, -1, *patches.shape[2:]),
        mean=patches.mean(0),
        means=torch.cat([mixture.means_ for mixture in mixtures]),
        unwhitening=torch.linalg.pinv(found.filters.unflatten(0, (conv.groups, -1))),
    )
