"""What a training step makes of a network's output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.models import AuxiliaryScores
from simroot.training.module import ClassificationModule
from training.support import QUICK, small_data


class Heads(nn.Module):
    """Scores of three classes, and two more heads while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor | AuxiliaryScores:
        scores, *others = (head(x.mean((2, 3))) for head in self.heads)
        return AuxiliaryScores(scores, tuple(others), 0.3) if self.training else scores


def test_auxiliary_heads_add_their_weighted_losses() -> None:
    torch.manual_seed(0)
    model = Heads()
    module = ClassificationModule(model, small_data(), QUICK)
    images, labels = torch.randn(6, 3, 4, 4), torch.arange(6) % 3
    features = images.double().mean((2, 3))
    losses = []
    for head in model.heads:
        assert isinstance(head, nn.Linear)
        scores = features @ head.weight.double().T + head.bias.double()
        losses.append(-scores.log_softmax(1)[torch.arange(6), labels].mean())
    loss = module.training_step((images, labels), 0)
    torch.testing.assert_close(
        loss.double(), losses[0] + 0.3 * (losses[1] + losses[2]), rtol=1e-5, atol=1e-6
    )  # float32
    assert module.train_accuracy.compute() == (model.heads[0](images.mean((2, 3))).argmax(1) == labels).float().mean()


def test_what_a_network_cannot_bear_in_training_is_one_line() -> None:
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten())
    module = ClassificationModule(model.train(), small_data(), QUICK)
    with pytest.raises(ConfigError, match=r"cannot be trained on 1 image of \(3, 4, 4\): Expected more than 1 value"):
        module.training_step((torch.randn(1, 3, 4, 4), torch.zeros(1, dtype=torch.long)), 0)
