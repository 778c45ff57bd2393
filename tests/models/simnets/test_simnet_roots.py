"""Root SimNets: filter groups in the whitening convolution and the similarity, and their folding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from simroot.errors import ConfigError
from simroot.layers import FoldedWhitening2d
from simroot.layers.norm import diagonal_blocks
from simroot.models import create_model, deploy, relu_twin
from simroot.models.simnets.architecture import SimNet, Stage


def images(size: int = 15) -> torch.Tensor:
    return torch.randn(32, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 + 1


def trained(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Move all statistics and parameters away from their first values."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), torch.arange(32) % 10).backward()
        optimiser.step()
    return model.eval()


@torch.no_grad()
def outputs(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    scores: torch.Tensor = model(x)
    return scores


@pytest.mark.parametrize("similarity_groups", [1, 4])
def test_simnet2_folds_exactly_with_groups(similarity_groups: int) -> None:
    torch.manual_seed(0)
    x = images()
    model = create_model("simnet2_root4", similarity_groups=similarity_groups)
    model = trained(model, x)
    deployed = deploy(model)
    groups = [m.groups for m in deployed.modules() if isinstance(m, nn.Conv2d)]
    assert groups == [1, 4]
    torch.testing.assert_close(outputs(deployed, x), outputs(model, x), rtol=1e-3, atol=1e-3)  # float32 of large sums


def test_padded_stages_fold_with_groups() -> None:
    torch.manual_seed(0)
    x = images(9)
    model = SimNet((Stage(8, 8, 3, padding=1), Stage(8, 12, 3, padding=1, groups=2)), 10, 3)
    trained(model, x)
    torch.testing.assert_close(outputs(deploy(model), x), outputs(model, x), rtol=1e-3, atol=1e-3)


def test_whitening_decorrelates_within_groups_alone() -> None:
    torch.manual_seed(0)
    mixing = torch.randn(6, 6)
    x = torch.einsum("dc,nchw->ndhw", mixing, torch.randn(64, 6, 8, 8))
    whitening = FoldedWhitening2d(6, groups=2, momentum=1.0, eps=1e-6)
    whitening(x)
    rows = whitening.eval()(x).transpose(0, 1).flatten(1)
    covariance = torch.cov(rows)
    for block in diagonal_blocks(covariance, 2):
        torch.testing.assert_close(block, torch.eye(3), rtol=0, atol=1e-2)
    matrix, _ = whitening.affine()
    assert not matrix[:3, 3:].any()
    assert not matrix[3:, :3].any()
    assert covariance[:3, 3:].abs().max() > 0.05


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ConfigError, match=r"5 groups for the second convolution of simnet2 .* are 4 and 8"):
        create_model("simnet2", groups=5)
    with pytest.raises(ConfigError, match="7 groups for the second similarity of simnet2"):
        create_model("simnet2", similarity_groups=7)


def test_the_relu_twin_has_the_same_groups() -> None:
    twin = relu_twin("simnet2_root4", similarity_groups=2)
    assert [m.groups for m in twin.modules() if isinstance(m, nn.Conv2d)] == [1, 1, 4, 2]
