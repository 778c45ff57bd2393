"""Scores that start where the classes are: of a network that is to say of each class by itself whether it is there.

A softmax takes no notice of what all scores have in common, and a network may start with any of it. A sigmoid does: far
from the share of the images that have a class, the first steps are large and all of one kind. So the last layer is
shifted first, for the mean score of each class to be the logarithm of the odds of that share (as Lin et al. 2017 start
their detectors).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from simroot.data import ImageData, normalise
from simroot.data.splits import evenly
from simroot.layers import MexDense
from simroot.models import AuxiliaryScores

_IMAGES = 64


@torch.no_grad()
def start_at_shares(model: nn.Module, data: ImageData) -> bool:
    """Shift the scores of a network's last layer, in place; False if that makes the loss no smaller, or there is none.

    Args:
        model: (N,C,H,W) -> scores (N,classes), or scores with those of auxiliary heads.
        data: what it is to be trained on; some of its training images are looked at.
    """
    some = evenly(len(data.train), _IMAGES)
    images = normalise(data.train.read(some), data.mean, data.std)
    labels = data.train.labels[some].float()
    share = data.train.labels.double().mean(0)
    before = _scores(model, images)
    shift = (share.log() - (1 - share).clamp(min=1e-6).log()).float() - before.mean(0)
    trial = copy.deepcopy(model)
    if not _shift(trial, shift) or _loss(_scores(trial, images), labels) >= _loss(before, labels):
        return False
    return _shift(model, shift)


def _shift(model: nn.Module, shift: Tensor) -> bool:
    """Add to the scores what the last layer that has a number for each class adds."""
    for module in reversed(list(model.modules())):
        if isinstance(module, MexDense) and len(module.offsets) == len(shift):
            module.offsets = module.offsets + shift[:, None]
            return True
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter) and bias.shape == shift.shape:
            bias.add_(shift)
            return True
    return False


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    """Of a copy as it trains: statistics that it gathers are lost, and no generator moves on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        output = copy.deepcopy(model).train().forward(images)  # as written: compiled, it would be compiled twice
    scores: Tensor = (output.scores if isinstance(output, AuxiliaryScores) else output).float()
    return scores


def _loss(scores: Tensor, labels: Tensor) -> float:
    return float(functional.binary_cross_entropy_with_logits(scores, labels))
