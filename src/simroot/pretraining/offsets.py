"""The classification: statistics of the last similarities, and which template fires for which class."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing

import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn

from simroot.errors import ConfigError, DataError, counted
from simroot.layers import FoldedNorm2d
from simroot.models.simnets.architecture import SimNet
from simroot.pretraining.layers import layer_at, require_simnet
from simroot.pretraining.options import Offsets
from simroot.pretraining.patches import ImageBatches, layer_inputs

# Deviation of log(alpha), and the root of the number of positions, in the network that they were chosen for (simnet2).
_SPREAD, _ROOT = 0.6, 9.0


@torch.no_grad()
def normalise_scores(model: SimNet, samples: Tensor, constants: Tensor | None) -> None:
    """Set the statistics of the normalisation before the classification.

    Args:
        model: its ``norm`` is set.
        samples: last similarities, (n, templates).
        constants: with the mixture's constants c_l (templates,) the normalisation passes similarities on as they are,
            plus ``c_l``: the classification then gets log-densities. None brings them to one scale.
    """
    norm = model.norm
    assert isinstance(norm, FoldedNorm2d)
    if constants is None:
        norm.estimate(samples)
        return
    origin = layer_at(model, -1).similarity.shift()
    assert origin is not None
    norm.mean.copy_(origin - constants.to(origin))
    gain = norm.gain()
    assert gain is not None
    norm.var.copy_(gain.square() - norm.eps)


@torch.no_grad()
def classify(
    model: nn.Module,
    images: ImageBatches,
    source: Offsets,
    seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    r"""Set the classification offsets, and beta, from how often template l fires in class r.

    A template fires at a position if its (normalised) similarity is the largest there. With its shares
    :math:`P(l | r)` among the positions of class r, counted from 1, the lift is :math:`\log P(l | r) - \log P(l)`.
    Lifts of neighbouring classes are much alike: learned from there, the layers below would hear of little but what
    tells the most different classes apart. So :math:`\log \alpha` is the nearest matrix to the centred lifts in which
    all differences between classes are equally strong (the polar factor), each class's alpha brought to a mean of 1,
    and ``b_rl = log(alpha_rl) / beta``.

    Averaging over positions shrinks the differences between the images' scores: beyond 81 positions, the number of
    simnet2, beta and log(alpha) grow with the root of the number.

    Args:
        model: a SimNet with conv -> l_p-sim layers; its classifier is set.
        images: to count on, a loader of images with labels for ``"labels"``.
        source: ``"labels"``: the loader's labels say which class an image is of. ``"clusters"``: k-means of the images
            by how often each template fires in them; clusters take the place of classes, in any order.
        seed: of the clusters.
        advance: told the number of images of every batch that is done.

    Raises:
        ConfigError: for another kind of network, or another source.
        DataError: if labels are asked for and there are none or others than the network's classes, or there are fewer
            images than clusters.
    """
    model = require_simnet(model)
    classes, templates = model.classifier.offsets.shape
    if source not in ("clusters", "labels"):
        raise ConfigError(f"offsets come from {source!r}; expected clusters or labels")
    counts, labels = [], []
    with closing(layer_inputs(model, model.classifier, images, advance)) as inputs:
        for x, of_batch in inputs:
            cells = x.argmax(1).flatten(1) + templates * torch.arange(len(x), device=x.device).view(-1, 1)
            counts.append(cells.flatten().bincount(minlength=len(x) * templates).view(len(x), templates))
            if of_batch is not None:
                labels.append(of_batch)
    fired = torch.cat(counts).double()
    if source == "clusters":
        if len(fired) < classes:
            raise DataError(f"{len(fired)} images make no {classes} clusters, one for each class; give more images")
        shares = (fired / fired.sum(1, keepdim=True)).sqrt()
        found = KMeans(classes, n_init=1, random_state=seed).fit(shares.cpu().numpy()).labels_
        target = torch.from_numpy(found).long()
    elif labels:
        target = torch.cat(labels)
        if not 0 <= int(target.min()) <= int(target.max()) < classes:
            raise DataError(
                f"labels are up to {int(target.max())}; the network has {counted(classes, 'class', 'classes')}, "
                "counted from 0"
            )
    else:
        raise DataError("offsets from labels need labels; give a loader of images with labels, or other offsets")
    table = torch.ones(classes, templates, dtype=torch.float64).index_add_(0, target, fired.cpu())
    lift = (table / table.sum(1, keepdim=True)).log() - (table.sum(0) / table.sum()).log()
    _sharpen(model, _balanced(lift), int(fired[0].sum()))


def _balanced(lift: Tensor) -> Tensor:
    """The polar factor of lifts (classes, templates) without their means, brought to a deviation of 1."""
    centred = lift - lift.mean(1, keepdim=True)
    centred -= centred.mean(0)
    left, strengths, right = torch.linalg.svd(centred, full_matrices=False)
    strong = strengths > 1e-9 * strengths[0]
    balanced = left[:, strong] @ right[strong]
    return balanced / balanced.std().clamp_min(1e-12)


def _sharpen(model: SimNet, pattern: Tensor, positions: int) -> None:
    """Write beta and offsets: log(alpha) has the pattern's values at a scale that the number of positions asks for."""
    classifier, norm = model.classifier, model.norm
    assert isinstance(norm, FoldedNorm2d)
    sharpness = max(math.sqrt(positions) / _ROOT, 1.0)
    log_alpha = _SPREAD * sharpness * pattern
    log_alpha -= log_alpha.logsumexp(1, keepdim=True) - math.log(log_alpha.shape[1])
    classifier.beta = torch.as_tensor(sharpness / norm.scale).to(classifier.beta)
    classifier.offsets = (log_alpha / classifier.beta.double()).to(classifier.offsets)
