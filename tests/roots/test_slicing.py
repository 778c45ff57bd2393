"""Which channels may be permuted when filters are kept: those that nobody else reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from models.networks import Between
from simroot.errors import ConfigError
from simroot.models import rootify_with_report

IMAGE = torch.zeros(1, 3, 8, 8)


def permutations(model: nn.Module) -> tuple[nn.Module, str]:
    """The network with two groups in its second convolution, and what was permuted for them."""
    root, report = rootify_with_report(model.eval(), {"c2": 2}, example_input=IMAGE, weights="slice")
    return root, report.layers[1].permuted


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_neighbours_that_compute_their_weights_take_up_no_permutation(norm: Any) -> None:
    torch.manual_seed(0)
    model = Between(norm)
    root, permuted = permutations(model)
    assert permuted == "inputs"
    assert permutations(Between())[1] == "inputs and outputs"
    # What the computed filters read stands where it stood.
    assert torch.equal(root.get_parameter("c2.bias"), model.get_parameter("c2.bias"))
    for name, tensor in model.c3.state_dict().items():
        assert torch.equal(root.get_submodule("c3").state_dict()[name], tensor)


@pytest.mark.parametrize(
    "norm", [torch.nn.utils.weight_norm, lambda conv: prune.random_unstructured(conv, "weight", 2)]
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_that_cannot_be_copied(norm: Any) -> None:
    with pytest.raises(ConfigError, match=r"Between cannot be copied, .* first remove weight normalisation"):
        permutations(Between(norm))


@dataclass
class Features:
    first: Tensor
    scores: Tensor


@pytest.mark.parametrize("kind", [lambda *both: both, lambda *both: {"both": both}, Features])
def test_what_the_network_returns_keeps_its_order(kind: Any) -> None:
    class Returning(Between):
        def give(self, first: Tensor, scores: Tensor) -> Any:
            return kind(first, scores)

    torch.manual_seed(0)
    model = Returning()
    root, permuted = permutations(model)
    assert permuted == "outputs"
    assert torch.equal(root.get_parameter("c1.weight"), model.c1.weight)


def test_channels_that_are_written_to_keep_their_order() -> None:
    class Writing(Between):
        def change(self, x: Tensor) -> Tensor:
            x[:, :2] = 0
            return x

    assert permutations(Writing())[1] == "outputs"
