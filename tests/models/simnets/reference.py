"""A SimNet's formula in float64, and networks whose statistics have moved."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.layers import Similarity2d
from simroot.models import create_model
from simroot.models.simnets.architecture import SimNet


def trained(name: str, channels: float = 4, **overrides: Any) -> nn.Module:
    """The network after some batches in training, in evaluation: its statistics are no longer the first ones."""
    torch.manual_seed(0)
    model = create_model(name, channels=channels, **overrides).train()
    for _ in range(3):
        model(torch.randn(16, 3, 32, 32))
    return model.eval()


def simnet_reference(simnet: SimNet, x: Tensor) -> Tensor:
    """Its one whitened similarity, MEX classification and global MEX, of features in float64."""
    conv, similarity = simnet.similarities[0].conv, simnet.similarities[0].similarity
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(similarity, Similarity2d)
    assert conv.bias is not None
    y = F.conv2d(x, conv.weight.double(), conv.bias.double(), groups=conv.groups)
    z, u = similarity.templates.double().flatten(1), similarity.weights
    assert u is not None
    distances = (y[:, None] - z[None, :, :, None, None]).abs() ** float(similarity.order)
    s = -(u.double().flatten(1)[None, :, :, None, None] * distances).sum(2)
    if similarity.bias is not None:
        s = s + similarity.bias.double()[:, None, None]
    classifier, pool = simnet.classifier, simnet.global_pool
    beta, offsets = float(classifier.beta), classifier.offsets.double()
    scores = torch.log(torch.exp(beta * (s[:, None] + offsets[None, :, :, None, None])).mean(2)) / beta
    gamma = float(pool.beta)
    return scores.mean((2, 3)) if gamma == 0 else torch.log(torch.exp(gamma * scores).mean((2, 3))) / gamma
