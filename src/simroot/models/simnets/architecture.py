"""The two shapes of SimNets, MLP and L layers, and how what only training needs folds away (sections 3 and 4)."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.layers import (
    FoldedContrast2d,
    FoldedNorm2d,
    FoldedWhitening2d,
    GlobalMexPool2d,
    MexDense,
    MexPool2d,
    Similarity2d,
    WhitenedSimilarity2d,
)
from simroot.layers.norm import diagonal_blocks
from simroot.modules import replace_modules
from simroot.ops.similarity import Kind

if TYPE_CHECKING:
    from typing_extensions import Self

_FOLDING = (WhitenedSimilarity2d, MexPool2d, GlobalMexPool2d, MexDense)


def _classification(
    channels: int,
    num_classes: int,
    learn: Sequence[str],
    norm: type[FoldedNorm2d] = FoldedContrast2d,
    offsets_rate: float = 1.0,
) -> tuple[FoldedNorm2d, MexDense]:
    """The normalisation of the last similarities and the MEX units behind it.

    With a deviation of ``2.5 sqrt(C)`` the class scores are of order one whatever C is, and beta starts where a MEX
    unit is nearly linear in its inputs: training makes it as selective as the data asks for.
    """
    contrast = 2.5 * math.sqrt(channels)
    classifier = MexDense(
        channels,
        num_classes,
        beta=1 / contrast,
        learn_beta="beta" in learn,
        learn_offsets="offsets" in learn,
        offsets_rate=offsets_rate,
    )
    return norm(channels, scale=contrast), classifier


def _global_rate(channels: int) -> float:
    """How far the beta of global MEX moves behind C templates: what they share passes with the contrast, sqrt(C)."""
    return min(0.3, max(0.1, 0.8 / math.sqrt(channels)))


@dataclass(frozen=True)
class Stage:
    """One layer of an L-layer SimNet: convolution, similarity and, optionally, local pooling (section 4.3).

    Args:
        whitened: channels of the convolution.
        templates: templates of the similarity.
        kernel_size: receptive field of the convolution.
        padding: zero padding of the convolution.
        pool: beta of the 3x3 MEX pooling with stride 2 behind the similarity (inf: maximum, 0: average), or None.
        groups: filter groups of the convolution; what it reads is then decorrelated within groups.
        similarity_groups: groups of the similarity.
    """

    whitened: int
    templates: int
    kernel_size: int
    padding: int = 0
    pool: float | None = None
    groups: int = 1
    similarity_groups: int = 1

    def output_size(self, size: int) -> int:
        """Length of an axis behind the stage; zero or less if the image is too small."""
        size += 2 * self.padding - self.kernel_size + 1
        if self.pool is None or size < 1:
            return size
        # Behind a padded convolution a last, partial window counts: grids of 32, 16 and 8.
        return (size - 3 + int(self.padding > 0)) // 2 + 1


# What section 4.3 lists beside the filters; the first five are learned unless a network is told otherwise.
LEARNED = ("templates", "weights", "offsets", "beta", "global_beta")
LEARNABLE = (*LEARNED, "order", "pool_beta")


class SimNet(nn.Module):
    """L-layer SimNet (figure 1d): stages, classification MEX and global MEX pooling; (N, C, H, W) -> (N, classes).

    While it trains, the first filters are learned in coordinates in which patches are white, the responses of each
    convolution are normalised over the batch, the similarities are decorrelated before the next convolution and
    brought to one scale before the classification. ``simroot.models.deploy`` folds all of it away exactly; what is
    left is the paper's network. Where a later convolution pads, the similarity before it keeps an additive bias
    (section 5), so that its padded zeros are average similarities, not perfect ones.

    Args:
        stages: from the image on.
        num_classes: number of class scores.
        in_channels: channels of the image.
        order: p of all similarities (the first value where it is learned).
        learn: which of ``LEARNABLE`` are learned; the others keep their first values.
        noise: sigma of the multiplicative noise on the whitened patches.
        features: the input is no image but another network's features: decorrelate its channels instead of whitening
            its patches. The first stage must not pad then.
        offsets_rate: factor on the learning rate of the offsets.
    """

    def __init__(
        self,
        stages: tuple[Stage, ...],
        num_classes: int,
        in_channels: int,
        *,
        order: float = 2.0,
        learn: Sequence[str] = LEARNED,
        noise: float = 0.0,
        features: bool = False,
        offsets_rate: float = 1.0,
    ) -> None:
        super().__init__()
        _require_learnable(learn)
        if features and stages[0].padding:
            raise ConfigError(f"the first stage pads features by {stages[0].padding}; expected a padding of 0")
        self.stage_specs, self.in_channels = stages, in_channels
        self.whitenings = nn.ModuleList()
        self.similarities = nn.ModuleList()
        self.pools = nn.ModuleList()
        channels = in_channels
        for index, stage in enumerate(stages):
            last = index == len(stages) - 1
            decorrelated = index > 0 or features
            self.whitenings.append(FoldedWhitening2d(channels, groups=stage.groups) if decorrelated else nn.Identity())
            self.similarities.append(
                WhitenedSimilarity2d(
                    channels,
                    stage.whitened,
                    stage.templates,
                    stage.kernel_size,
                    order=order,
                    padding=stage.padding,
                    groups=stage.groups,
                    similarity_groups=stage.similarity_groups,
                    noise=noise,
                    whiten=not decorrelated,
                    from_origin=True,
                    bias=not last and stages[index + 1].padding > 0,
                    learn_order="order" in learn,
                    learn_templates="templates" in learn,
                    learn_weights="weights" in learn,
                )
            )
            self.pools.append(nn.Identity() if stage.pool is None else _pool(stage, learn))
            channels = stage.templates
        self.norm: nn.Module
        # Decorrelated features give similarities that share little: a plain normalisation does, and is faster.
        norm = FoldedNorm2d if features else FoldedContrast2d
        self.norm, self.classifier = _classification(channels, num_classes, learn, norm, offsets_rate)
        self.global_pool = GlobalMexPool2d(learn_beta="global_beta" in learn, beta_rate=_global_rate(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.global_pool(self.classifier(self.norm(self.features(x))))

    def features(self, x: Tensor) -> Tensor:
        """The last stage's similarities, (N, templates, H', W')."""
        for whitening, similarity, pool in zip(self.whitenings, self.similarities, self.pools, strict=True):
            x = pool(similarity(whitening(x)))
        return x

    @torch.no_grad()
    def folded(self) -> Self:
        """A copy with every normalisation folded into its neighbours."""
        network = copy.deepcopy(self)
        replace_modules(network, lambda part: part.folded() if isinstance(part, _FOLDING) else None)
        similarities = cast("list[WhitenedSimilarity2d]", list(network.similarities))
        for index, after in enumerate(similarities):
            before = similarities[index - 1].similarity if index else None
            _fold_whitening(network.whitenings[index], before, after.conv)
            network.whitenings[index] = nn.Identity()
        similarities[-1].similarity = _fold_contrast(network.norm, similarities[-1].similarity, network.classifier)
        network.norm = nn.Identity()
        return network


class SimNetMlp(nn.Module):
    """SimNet MLP (section 3, figure 1a): templates over the whole input and a MEX unit per class.

    (N, C, H, W) or (N, d) -> (N, classes); ``h_r(x) = MEX_beta {u_l^T phi(x, z_l) + b_rl}``. The similarities are
    brought to one scale while it trains, which folds into the weights and offsets.

    Args:
        in_features: d.
        templates: number of hidden similarity units n.
        num_classes: number of class scores.
        kind: ``"lp"`` or ``"linear"``.
        order: p.
        learn: which of ``LEARNABLE`` are learned; the others keep their first values.
    """

    def __init__(
        self,
        in_features: int,
        templates: int,
        num_classes: int,
        *,
        kind: Kind = "lp",
        order: float = 2.0,
        learn: Sequence[str] = LEARNED,
    ) -> None:
        super().__init__()
        _require_learnable(learn)
        self.in_features = in_features
        self.similarity = Similarity2d(
            in_features,
            templates,
            kind=kind,
            order=order,
            weighted=kind == "lp",
            from_origin=True,
            learn_templates="templates" in learn,
            learn_weights="weights" in learn,
            learn_order="order" in learn,
        )
        self.norm: nn.Module
        self.norm, self.classifier = _classification(templates, num_classes, learn)

    def forward(self, x: Tensor) -> Tensor:
        similarities = self.similarity(x.flatten(1)[:, :, None, None])
        return self.classifier(self.norm(similarities)).flatten(1)

    @torch.no_grad()
    def folded(self) -> Self:
        """A copy with the normalisation folded into weights and offsets."""
        network = copy.deepcopy(self)
        network.classifier = self.classifier.folded()
        network.similarity = _fold_contrast(self.norm, self.similarity.folded(), network.classifier)
        network.norm = nn.Identity()
        return network


def _pool(stage: Stage, learn: Sequence[str]) -> MexPool2d:
    beta = math.inf if stage.pool is None else stage.pool
    learn_beta = "pool_beta" in learn and math.isfinite(beta)
    return MexPool2d(3, 2, ceil_mode=stage.padding > 0, beta=beta, learn_beta=learn_beta)


def _require_learnable(learn: Sequence[str]) -> None:
    if unknown := set(learn) - set(LEARNABLE):
        raise ConfigError(f"learn names {', '.join(sorted(unknown))}; expected some of {', '.join(LEARNABLE)}")


def _fold_whitening(whitening: nn.Module, before: Similarity2d | None, conv: nn.Conv2d) -> None:
    """``conv(A (s + b - m))``: A goes into the filters, b - m into their biases or, where they pad, stays with s.

    Where s is no similarity (``before`` is None) there is no b, and the filters do not pad.
    """
    if not isinstance(whitening, FoldedWhitening2d):
        return
    matrix, mean = whitening.affine()
    shift = -mean if before is None else _taken_bias(before) - mean
    groups = conv.groups
    blocks = diagonal_blocks(matrix, groups)
    filters = torch.einsum("grckl,gci->grikl", conv.weight.double().unflatten(0, (groups, -1)), blocks)
    if before is not None and any(conv.padding):
        before.bias = nn.Parameter(shift.to(conv.weight))
    elif conv.bias is not None:
        shifts = shift.unflatten(0, (groups, -1))
        conv.bias += torch.einsum("grckl,gc->gr", filters, shifts).flatten().to(conv.bias)
    conv.weight.copy_(filters.flatten(0, 1))


def _fold_contrast(norm: nn.Module, similarity: Similarity2d, classifier: MexDense) -> Similarity2d:
    """``MEX{a (s + b - m) + o} = MEX{a s + (o + a (b - m))}``, a per template: the similarity, and into the offsets."""
    if not isinstance(norm, FoldedNorm2d):
        return similarity
    matrix, mean = norm.affine()
    scale = matrix.diagonal()
    shift = scale * (_taken_bias(similarity) - mean)
    classifier.offsets += shift.to(classifier.offsets)
    return similarity.folded(scale)


def _taken_bias(similarity: Similarity2d) -> Tensor:
    """The bias of a folded similarity in float64, which it loses."""
    bias, similarity.bias = similarity.bias, None
    return torch.zeros((), dtype=torch.float64) if bias is None else bias.double()
