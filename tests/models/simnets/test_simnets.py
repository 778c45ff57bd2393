"""SimNets: sizes of the paper, folding, what is learned, and that they leave chance at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.layers import FoldedNorm2d, Similarity2d
from simroot.models import create_model, deploy, relu_twin
from simroot.models.simnets.architecture import LEARNABLE, SimNet, Stage

SIMNETS = ["simnet_mlp", "simnet1", "simnet2", "simnet2_small", "simnet3_compact"]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def trained(model: nn.Module, size: int, channels: int = 3, steps: int = 10) -> Tensor:
    """Move all statistics and parameters away from their first values; returns images to compare outputs on."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, channels, size, size, generator=generator) * 2 + 1
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), torch.arange(20) % 10).backward()
        optimiser.step()
    model.eval()
    return x


def test_simnet2_has_the_papers_size_before_and_after_deployment() -> None:
    model = create_model("simnet2")
    assert parameters(model) == parameters(deploy(model)) == 64_578
    assert parameters(create_model("simnet2", num_classes=100)) == 70_338


@pytest.mark.parametrize("name", SIMNETS)
def test_deployed_network_is_the_papers_and_gives_the_same_scores(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, image_size=16 if name != "simnet_mlp" else 8)
    x = trained(model, 16 if name != "simnet_mlp" else 8)
    deployed = deploy(model)
    assert not any(isinstance(m, FoldedNorm2d) for m in deployed.modules())
    assert not any(hasattr(m, "parametrizations") for m in deployed.modules())
    scores = model(x).detach()
    # Filters, weights and offsets are rounded to float32 once more, at templates that are large against the data.
    torch.testing.assert_close(deployed(x).detach(), scores, rtol=1e-3, atol=1e-3 * float(scores.std()))
    assert torch.equal(model(x), scores), "the network itself must stay as it was"
    assert torch.equal(deploy(deployed)(x), deployed(x)), "a deployed network deploys to itself"


def test_deployment_is_exact_in_double_precision() -> None:
    torch.manual_seed(0)
    model = create_model("simnet3_compact", image_size=12).double()
    trained(model.float(), 12)
    model.double()
    x = torch.randn(4, 3, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(deploy(model)(x), model(x), rtol=1e-7, atol=1e-7)  # only the order of sums differs


@pytest.mark.parametrize("name", LEARNABLE)
def test_each_parameter_of_section_4_3_can_be_learned_or_fixed(name: str) -> None:
    stages = (Stage(4, 4, 3, pool=0.5), Stage(4, 4, 3))

    def learned(names: tuple[str, ...]) -> set[str]:
        model = SimNet(stages, 3, 1, order=1.5, learn=names)
        return {key for key, p in model.named_parameters() if p.requires_grad}

    others = tuple(n for n in LEARNABLE if n != name)
    gained = learned(LEARNABLE) - learned(others)
    assert gained == learned((name,)) - learned(())
    assert gained


def test_unknown_learned_parameter_is_named() -> None:
    with pytest.raises(ConfigError, match="learn names gamma; expected some of templates"):
        create_model("simnet2", learn=("gamma",))


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("simnet2", {"image_size": 14}, "image_size of simnet2 is 14; the smallest that works is 15"),
        ("simnet1", {"channels": 0}, "channels of simnet1 is 0"),
        ("simnet_mlp", {"kind": "cosine"}, "kind of simnet_mlp is 'cosine'"),
        ("simnet2", {"order": -1.0}, "needs a finite p > 0"),
    ],
)
def test_wrong_overrides_are_named(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, **overrides)


def test_smallest_image_works() -> None:
    model = create_model("simnet2", image_size=15).eval()
    assert model(torch.randn(2, 3, 15, 15)).shape == (2, 10)


@pytest.mark.slow
@pytest.mark.parametrize("order", [1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_training_leaves_chance_at_once(seed: int, order: float) -> None:
    """Ten classes of noisy patterns: forty steps from any seed must bring less than half the loss of chance, 2.30."""
    torch.manual_seed(seed)
    model = create_model("simnet2_small", in_channels=1, order=order)
    patterns = torch.randn(10, 1, 8, 8)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    losses = []
    for _ in range(40):
        labels = torch.randint(10, (64,))
        loss = nn.functional.cross_entropy(model(patterns[labels] + torch.randn(64, 1, 8, 8)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 1.15


@pytest.mark.parametrize("name", SIMNETS)
def test_relu_twin_has_the_shape_of_the_simnet_without_its_operators(name: str) -> None:
    twin, simnet = relu_twin(name, image_size=16), create_model(name, image_size=16)
    assert not any(isinstance(m, Similarity2d) for m in twin.modules())
    assert twin(torch.randn(2, 3, 16, 16)).shape == (2, 10)
    convolutions = {tuple(p.shape) for p in simnet.parameters() if p.ndim == 4 and p.shape[-1] > 1}
    assert convolutions <= {tuple(p.shape) for p in twin.parameters()}
    x = trained(twin, 16)
    torch.testing.assert_close(deploy(twin)(x), twin(x), rtol=1e-4, atol=1e-4)  # float32 rounding of folded filters


def test_twin_can_have_whitened_first_filters_too() -> None:
    twin = relu_twin("simnet2", image_size=16, whiten=True)
    x = trained(twin, 16)
    assert not torch.equal(twin.get_submodule("conv1").patches.matrix, torch.eye(75))  # type: ignore[union-attr,arg-type]
    assert parameters(twin) == parameters(relu_twin("simnet2", image_size=16))
    torch.testing.assert_close(deploy(twin)(x), twin(x), rtol=1e-3, atol=1e-3)  # float32 rounding of folded filters


def test_only_simnets_have_a_twin() -> None:
    with pytest.raises(ConfigError, match="convnet_caffe is no SimNet"):
        relu_twin("convnet_caffe")


@pytest.mark.parametrize(
    ("name", "overrides", "sizes"),
    [
        ("simnet2", {"channels": [6, 8], "whitened": [5, 10]}, [(5, 6), (10, 8)]),
        ("simnet2_small", {"whitened": (4, 7)}, [(4, 24), (7, 32)]),
        ("simnet3_compact", {"channels": (4, 5, 6)}, [(4, 4), (5, 5), (6, 6)]),
        ("simnet3_compact", {"whitened": 3}, [(3, 10), (3, 10), (3, 10)]),
    ],
)
def test_channels_of_each_stage(name: str, overrides: dict[str, Any], sizes: list[tuple[int, int]]) -> None:
    model = create_model(name, image_size=16, **overrides)
    assert isinstance(model, SimNet)
    assert [(stage.whitened, stage.templates) for stage in model.stage_specs] == sizes
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("simnet2", {"channels": (3, 4, 5)}, "channels of simnet2 is .*; expected 2 numbers"),
        ("simnet2_small", {"whitened": [4]}, "whitened of simnet2_small is .*; expected 2 numbers"),
        ("simnet3", {"channels": (4, 0, 4)}, "channels of simnet3 is 0"),
        ("simnet3_compact", {"channels": 2.5}, "channels of simnet3_compact is 2.5"),
    ],
)
def test_channels_that_do_not_fit_the_stages(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, **overrides)


@pytest.mark.parametrize(("templates", "share"), [(4, 0.09), (10, 0.064), (64, 0.01), (160, 0.01)])
def test_beta_of_global_mex_moves_less_behind_more_templates(templates: int, share: float) -> None:
    pool = SimNet((Stage(4, templates, 1),), 10, 3).global_pool
    assert isinstance(pool.beta, Tensor)
    pool.beta.backward()
    torch.optim.SGD(pool.parameters(), lr=1.0).step()
    assert float(pool.beta.detach()) == pytest.approx(-share, rel=1e-5)  # of a gradient of 1


def test_similarities_of_a_wide_layer_differ_in_the_eyes_of_the_classification() -> None:
    """What they share, which decides nothing, does not take up the contrast that MEX sees."""
    torch.manual_seed(0)
    network = create_model("simnet1", channels=64)
    assert isinstance(network, SimNet)
    smooth = torch.randn(8, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    x = smooth + 0.1 * torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        for _ in range(50):
            network(x)
        seen = network.norm(network.features(x))
    own = seen - seen.mean(1, keepdim=True)
    assert seen.var() > 2 * own.var()
    # Each template is scaled by itself, so what they share does not cancel quite.
    torch.testing.assert_close(own.std((0, 2, 3)), torch.full((64,), 2.5 * 64**0.5), rtol=0.3, atol=0)
