"""The two shapes of SimNets, MLP and L layers, and how what only training needs folds away (sections 3 and 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.layers import (
    FoldedNorm2d,
    FoldedWhitening2d,
    GlobalMexPool2d,
    MexDense,
    MexPool2d,
    Similarity2d,
    WhitenedSimilarity2d,
)

# The classification MEX sees similarities of this deviation, and starts with a beta at which it is nearly linear in
# them: class scores are then of order one, and training makes it as selective as the data asks for.
_CONTRAST = 20.0
_BETA = 0.5 / _CONTRAST


@dataclass(frozen=True)
class Stage:
    """One layer of an L-layer SimNet: convolution, similarity and, optionally, local pooling (section 4.3).

    Args:
        whitened: channels of the convolution.
        templates: templates of the similarity.
        kernel_size: receptive field of the convolution.
        padding: zero padding of the convolution.
        pool: beta of the 3x3 MEX pooling with stride 2 behind the similarity (inf: maximum, 0: average), or None.
    """

    whitened: int
    templates: int
    kernel_size: int
    padding: int = 0
    pool: float | None = None

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

    While it trains, the responses of each convolution are normalised over the batch, the similarities are decorrelated
    before the next convolution and brought to one scale before the classification. ``simroot.models.deploy`` folds
    all three away exactly; what is left is the paper's network. Where a later convolution pads, the similarity before
    it keeps an additive bias (section 5), so that its padded zeros are average similarities, not perfect ones.

    Args:
        stages: from the image on.
        num_classes: number of class scores.
        in_channels: channels of the image.
        order: p of all similarities (the first value where it is learned).
        learn: which of ``LEARNABLE`` are learned; the others keep their first values.
        noise: sigma of the multiplicative noise on the whitened patches.
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
    ) -> None:
        super().__init__()
        _require_learnable(learn)
        self.stage_specs = stages
        self.whitenings = nn.ModuleList()
        self.similarities = nn.ModuleList()
        self.pools = nn.ModuleList()
        channels = in_channels
        for index, stage in enumerate(stages):
            last = index == len(stages) - 1
            self.whitenings.append(FoldedWhitening2d(channels) if index else nn.Identity())
            self.similarities.append(
                WhitenedSimilarity2d(
                    channels,
                    stage.whitened,
                    stage.templates,
                    stage.kernel_size,
                    order=order,
                    padding=stage.padding,
                    noise=noise,
                    bias=not last and stages[index + 1].padding > 0,
                    learn_order="order" in learn,
                    learn_templates="templates" in learn,
                    learn_weights="weights" in learn,
                )
            )
            self.pools.append(nn.Identity() if stage.pool is None else _pool(stage, learn))
            channels = stage.templates
        self.norm: nn.Module = FoldedNorm2d(channels, scale=_CONTRAST)
        self.classifier = MexDense(
            channels, num_classes, beta=_BETA, learn_beta="beta" in learn, learn_offsets="offsets" in learn
        )
        self.global_pool = GlobalMexPool2d(learn_beta="global_beta" in learn)

    def forward(self, x: Tensor) -> Tensor:
        return self.global_pool(self.classifier(self.norm(self.features(x))))

    def features(self, x: Tensor) -> Tensor:
        """The last stage's similarities, (N, templates, H', W')."""
        for whitening, similarity, pool in zip(self.whitenings, self.similarities, self.pools, strict=True):
            x = pool(similarity(whitening(x)))
        return x

    @torch.no_grad()
    def fold(self) -> None:
        """Fold every normalisation into its neighbours, in place; the outputs in evaluation stay the same."""
        similarities = cast("list[WhitenedSimilarity2d]", list(self.similarities))
        for similarity in similarities:
            similarity.fold()
        for index, (before, after) in enumerate(pairwise(similarities), start=1):
            _fold_whitening(self.whitenings[index], before, after)
            self.whitenings[index] = nn.Identity()
        for pool in (*self.pools, self.global_pool):
            if isinstance(pool, (MexPool2d, GlobalMexPool2d)):
                pool.fold()
        _fold_contrast(self.norm, similarities[-1].similarity, self.classifier)
        self.norm = nn.Identity()


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
        kind: str = "lp",
        order: float = 2.0,
        learn: Sequence[str] = LEARNED,
    ) -> None:
        super().__init__()
        _require_learnable(learn)
        self.in_features = in_features
        self.similarity = Similarity2d(
            in_features,
            templates,
            kind=kind,  # type: ignore[arg-type]
            order=order,
            weighted=kind == "lp",
            learn_templates="templates" in learn,
            learn_weights="weights" in learn,
            learn_order="order" in learn,
        )
        self.norm: nn.Module = FoldedNorm2d(templates, scale=_CONTRAST)
        self.classifier = MexDense(
            templates, num_classes, beta=_BETA, learn_beta="beta" in learn, learn_offsets="offsets" in learn
        )

    def forward(self, x: Tensor) -> Tensor:
        similarities = self.similarity(x.flatten(1)[:, :, None, None])
        return self.classifier(self.norm(similarities)).flatten(1)

    @torch.no_grad()
    def fold(self) -> None:
        """Fold the normalisation into weights and offsets, in place."""
        _fold_contrast(self.norm, self.similarity, self.classifier)
        self.norm = nn.Identity()


def _pool(stage: Stage, learn: Sequence[str]) -> MexPool2d:
    beta = math.inf if stage.pool is None else stage.pool
    learn_beta = "pool_beta" in learn and math.isfinite(beta)
    return MexPool2d(3, 2, ceil_mode=stage.padding > 0, beta=beta, learn_beta=learn_beta)


def _require_learnable(learn: Sequence[str]) -> None:
    if unknown := set(learn) - set(LEARNABLE):
        raise ConfigError(f"learn names {', '.join(sorted(unknown))}; expected some of {', '.join(LEARNABLE)}")


def _fold_whitening(whitening: nn.Module, before: WhitenedSimilarity2d, after: WhitenedSimilarity2d) -> None:
    """``conv(A (s - m))``: A goes into the filters, m into their biases or, where they pad, before the padding."""
    if not isinstance(whitening, FoldedWhitening2d):
        return
    matrix, mean = whitening.folded()
    conv = after.conv
    weight = torch.einsum("rckl,ci->rikl", conv.weight.double(), matrix)
    conv.weight.copy_(weight)
    if before.similarity.bias is not None:
        before.similarity.bias.sub_(mean.to(before.similarity.bias))
    else:
        conv.bias -= torch.einsum("rckl,c->r", weight, mean).to(conv.weight)  # type: ignore[operator]


def _fold_contrast(norm: nn.Module, similarity: Similarity2d, classifier: MexDense) -> None:
    """``MEX{a (s - m) + b} = MEX{a s + (b - a m)}``, a per template: into the weights and the offsets."""
    classifier.fold()
    if not isinstance(norm, FoldedNorm2d):
        return
    matrix, mean = norm.folded()
    scale = matrix.diagonal()
    similarity.fold(scale)
    classifier.offsets.sub_((scale * mean).to(classifier.offsets))
