"""Accelerated networks: the same results and gradients, names and modules, and the way back."""

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision.ops
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from simroot import create_model
from simroot.layers import MexPool2d, accelerate, acceleration, restore
from simroot.ops import kernels_in_use, use_kernels

LAST = torch.channels_last


class Foreign(nn.Module):
    """What networks of others look like: functions, a module used twice, an addition, a branch."""

    def __init__(self, *, branch: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 12, 3, 1, 1, groups=12, bias=False), nn.BatchNorm2d(12, momentum=None)
        self.conv3, self.bn3 = nn.Conv2d(12, 12, 1, bias=False), nn.BatchNorm2d(12)
        self.relu, self.branch = nn.ReLU(inplace=True), branch

    def forward(self, x: Tensor) -> Tensor:
        if self.branch and x.mean() > 0:
            x = x + 1
        x = self.relu(self.bn1(self.conv1(x)))
        y = F.silu(self.bn2(self.conv2(x)))
        y = self.bn3(self.conv3(y))
        y += x
        return self.relu(y).mean((2, 3))


def small_mobile() -> nn.Module:
    return create_model("mobilenet_v3_compact", image_size=16)


def small_blueprint() -> nn.Module:
    return create_model("bsconv_wrn_s", image_size=16, depth=1)


def small_residual() -> nn.Module:
    return create_model("resnet20", image_size=16, depth=1)


class Excited(nn.Module):
    """A squeeze-excitation as other libraries have it, between a depthwise convolution and a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.expand, self.act = nn.Conv2d(12, 3, 1), nn.Conv2d(3, 12, 1), nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


def excited() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1, bias=False),
        nn.BatchNorm2d(12),
        nn.Conv2d(12, 12, 3, 1, 1, groups=12, bias=False),
        nn.BatchNorm2d(12),
        nn.SiLU(),
        Excited(),
        nn.Conv2d(12, 9, 1, bias=False),
        nn.BatchNorm2d(9),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def foreign_excited() -> nn.Sequential:
    return nn.Sequential(*excited()[:5], torchvision.ops.SqueezeExcitation(12, 4), *excited()[6:])


class BatchNormAct2d(nn.BatchNorm2d):
    """As timm has it: with the activation in it."""

    def __init__(self, channels: int, act: nn.Module) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), act

    def forward(self, input: Tensor) -> Tensor:
        y: Tensor = self.act(self.drop(super().forward(input)))
        return y


class Inverted(nn.Module):
    """An inverted residual of timm's, with places that nothing stands in."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_pw, self.bn1 = nn.Conv2d(8, 16, 1, bias=False), BatchNormAct2d(16, nn.Hardswish(inplace=True))
        self.conv_dw, self.bn2 = nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), BatchNormAct2d(16, nn.SiLU())
        self.conv_pwl, self.bn3 = nn.Conv2d(16, 8, 1, bias=False), BatchNormAct2d(8, nn.Identity())
        self.aa, self.se, self.drop_path = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(self.aa(self.bn2(self.conv_dw(self.bn1(self.conv_pw(x))))))
        return self.drop_path(self.bn3(self.conv_pwl(y))) + x


def small_timm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Inverted(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def pooled() -> nn.Module:
    """Windows of 2 x 2 behind an activation, behind a normalisation, and of MEX; and one that is none of these."""
    pools = (nn.MaxPool2d(2), nn.AvgPool2d(2), MexPool2d(2, beta=math.inf), nn.MaxPool2d(2, 1))
    layers: list[nn.Module] = []
    for pool, act in zip(pools, (nn.ReLU(), nn.Identity(), nn.SiLU(), nn.ReLU()), strict=True):
        inputs = 12 if layers else 3
        layers += [nn.Conv2d(inputs, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), act, pool]
    return nn.Sequential(*layers, nn.Flatten())


class RootModule(nn.Module):
    """Depthwise filters and a 1x1 convolution that nothing stands between; a shortcut where the channels stay."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.depthwise = nn.Conv2d(inputs, inputs, kernel_size, stride, padding, groups=inputs, bias=False)
        self.pointwise, self.bn2 = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.pointwise(self.depthwise(x))).relu()
        return x + y if self.adds else y


def small_root() -> nn.Sequential:
    """The last two are left to other kernels: larger filters, and those that stride."""
    modules = RootModule(12, 12), RootModule(12, 9), RootModule(9, 9, 5), RootModule(9, 12, stride=2)
    return nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), *modules, nn.AvgPool2d(2), nn.AvgPool2d(4), nn.Flatten())


NETWORKS: list[Callable[[], nn.Module]] = [
    small_root,
    Foreign,
    small_timm,
    excited,
    foreign_excited,
    small_mobile,
    small_blueprint,
    small_residual,
    pooled,
]


def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(24, 3, 16, 16, generator=generator).to(memory_format=LAST)


def seeded(network: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return network().to(memory_format=LAST).train()


def step(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    y = model(x)
    loss = (y * torch.linspace(-1, 1, y.shape[1], dtype=y.dtype)).square().sum()
    return y.detach(), list(torch.autograd.grad(loss, list(model.parameters())))


def far(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm().clamp(min=1e-3))


@pytest.mark.parametrize("network", NETWORKS)
def test_results_gradients_and_statistics_are_those_of_the_network(network: Callable[[], nn.Module]) -> None:
    plain = seeded(network)
    exact, fast = copy.deepcopy(plain).double(), accelerate(copy.deepcopy(plain))
    assert acceleration(fast)
    assert list(fast.state_dict()) == list(plain.state_dict())
    expected, gradients = step(exact, images().double())
    y, found = step(fast, images())
    theirs = step(plain, images())[1]
    assert far(y, expected) < 1e-5
    for name, ours, other, true in zip(dict(plain.named_parameters()), found, theirs, gradients, strict=True):
        # Gradients that cancel are noise in either: ours may have as much of it as PyTorch's.
        assert far(ours, true) < max(1e-4, 3 * far(other, true)), name
    for name, buffer in fast.named_buffers():
        assert far(buffer, exact.get_buffer(name)) < 1e-3, name


@pytest.mark.parametrize("network", NETWORKS)
def test_evaluation_is_the_networks_own(network: Callable[[], nn.Module]) -> None:
    """To the bit with gradients; without them root modules are one operator, too."""
    plain = seeded(network)
    plain(images())  # which moves the running statistics
    fast = accelerate(copy.deepcopy(plain)).eval()
    expected = plain.eval()(images())
    assert torch.equal(fast(images()), expected)
    with torch.no_grad():
        assert far(fast(images()), expected) < 1e-5


@pytest.mark.parametrize("network", [Foreign, small_root, small_timm])
def test_without_kernels_training_is_the_networks_own_to_the_bit(network: Callable[[], nn.Module]) -> None:
    plain = seeded(network)
    fast = accelerate(copy.deepcopy(plain))
    with use_kernels("reference"):
        (y, gradients), (expected, others) = step(fast, images()), step(plain, images())
    assert torch.equal(y, expected)
    assert all(torch.equal(one, other) for one, other in zip(gradients, others, strict=True))
    counts = {int(value) for name, value in fast.state_dict().items() if name.endswith("bn2.num_batches_tracked")}
    assert counts == {1}


@pytest.mark.parametrize("network", [Foreign, small_mobile])
def test_the_way_back_copies_and_pickles(network: Callable[[], nn.Module]) -> None:
    fast = accelerate(seeded(network))
    again = accelerate(fast)
    assert again is fast
    expected = step(copy.deepcopy(fast), images())
    for copied in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        y, gradients = step(copied, images())
        assert torch.equal(y, expected[0])
        assert all(torch.equal(one, other) for one, other in zip(gradients, expected[1], strict=True))
        for module in copied.modules():
            assert "forward" not in module.__dict__ or module.__dict__["forward"].module is module
    assert restore(fast) is fast
    assert not acceleration(fast)
    assert not any("forward" in module.__dict__ for module in fast.modules())


def test_what_was_found_is_told() -> None:
    found = acceleration(accelerate(seeded(Foreign)))
    assert {item.module for item in found} == {""}
    text = str(found)
    assert "3 x depthwise or 1x1 convolution" in text
    assert "1 x batch normalisation and activation where the next convolution reads" in text
    assert "2 x batch normalisation and what follows it in one operator" in text
    assert "expected of a training step" in text
    full = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    for left in (nn.Linear(2, 2), full):
        assert str(acceleration(accelerate(left))).startswith("nothing to accelerate")
    normed = acceleration(accelerate(nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())))
    assert [item.what for item in normed] == ["batch normalisation and what follows it in one operator"]


@pytest.mark.parametrize("network", [excited, foreign_excited, small_mobile])
def test_squeeze_excitations_are_left_to_the_projection(network: Callable[[], nn.Module]) -> None:
    model = accelerate(seeded(network))
    assert "x squeeze-excitation where the next convolution reads" in str(acceleration(model))
    names = {type(node).__name__ for node in graph_of(model(images()))}
    assert any("gated_conv" in name for name in names) == (kernels_in_use().name != "reference")


@pytest.mark.parametrize("hooked", [None, "depthwise", "pointwise", "bn2"])
def test_root_modules_are_one_operator(hooked: str | None) -> None:
    model = seeded(small_root)
    if hooked is not None:
        model.get_submodule(f"1.{hooked}").register_forward_hook(lambda *_: None)
    found = [item.module for item in acceleration(accelerate(model)) if "filters, 1x1 convolution" in item.what]
    assert found == ["1", "2"][hooked is not None :]
    names = [type(node).__name__ for node in graph_of(model(images()))]
    expected = len(found) * (kernels_in_use().name != "reference")
    assert sum("root_module" in name for name in names) == expected


@pytest.mark.parametrize(("size", "expected"), [(16, 3), (18, 2)])
def test_windows_of_two_are_pooled_with_their_normalisation(
    size: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simroot.ops.norm._SMALLEST", 1)
    plain = seeded(pooled)
    x = F.pad(images(), (0, size - 16, 0, size - 16)).contiguous(memory_format=LAST)
    fast = accelerate(copy.deepcopy(plain))
    y = fast(x)
    names = [type(node).__name__ for node in graph_of(y)]
    assert sum("pooled_norm" in name for name in names) == expected * (kernels_in_use().name != "reference")
    assert far(y.detach(), copy.deepcopy(plain).double()(x.double()).detach()) < 1e-5
    with use_kernels("reference"):
        assert torch.equal(accelerate(copy.deepcopy(plain))(x), copy.deepcopy(plain)(x))


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), MexPool2d(2, beta=math.inf), MexPool2d(2, beta=-math.inf)]
)
def test_windows_of_two_are_pooled_by_themselves(pool: nn.Module) -> None:
    """Behind a convolution with a bias, which no normalisation follows; a minimum is not."""
    plain = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), pool).to(memory_format=LAST).train()
    fast = accelerate(copy.deepcopy(plain))
    served = getattr(pool, "beta", 0.0) != -math.inf
    assert ("1 x pooling by two" in str(acceleration(fast))) == served
    y = fast(images())
    names = {type(node).__name__ for node in graph_of(y)}
    assert any("window_pool" in name for name in names) == (served and kernels_in_use().name != "reference")
    torch.testing.assert_close(y, plain(images()))
    assert torch.equal(fast.eval()(images()), plain.eval()(images()))


@pytest.mark.parametrize("channels", [None, 12])
def test_a_pooling_whose_beta_is_learned_stays_itself(channels: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where beta begins at that of the mean, and is a parameter of its own."""
    monkeypatch.setattr("simroot.ops.norm._SMALLEST", 1)
    pool = MexPool2d(2, beta=0.0, learn_beta=True, channels=channels)
    parametrize.remove_parametrizations(pool, "beta")
    assert type(pool) is MexPool2d
    network = nn.Sequential(nn.Conv2d(3, 12, 3, bias=False), nn.BatchNorm2d(12), pool)
    accelerate(network.to(memory_format=LAST))(images()).square().sum().backward()
    assert isinstance(pool.beta, Tensor)
    assert pool.beta.grad is not None


def graph_of(y: Tensor) -> list[Any]:
    """All steps that autograd has recorded."""
    found, waiting = [], [y.grad_fn]
    while waiting:
        if (node := waiting.pop()) is not None and node not in found:
            found.append(node)
            waiting += [after for after, _ in node.next_functions]
    return found


def test_an_activation_within_a_normalisation_waits_with_it() -> None:
    text = str(acceleration(accelerate(small_timm())))
    assert "2 x batch normalisation and activation where the next convolution reads" in text
    assert "1 x batch normalisation and what follows it in one operator" in text


def test_gates_alone_are_squeeze_excitations() -> None:
    class Twice(Excited):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + x

    class Unpooled(Excited):
        def forward(self, x: Tensor) -> Tensor:
            return x * self.expand(self.act(self.reduce(x))).sigmoid()

    for other in (Twice(), Unpooled()):
        model = nn.Sequential(*excited()[:5], other, *excited()[6:])
        assert "squeeze" not in str(acceleration(accelerate(model)))


def test_what_cannot_be_traced_and_what_has_hooks_is_left_alone() -> None:
    assert not acceleration(accelerate(Foreign(branch=True)))
    hooked = seeded(Foreign)
    seen: list[Tensor] = []
    hooked.get_submodule("bn2").register_forward_hook(lambda module, arguments, y: seen.append(y))
    accelerate(hooked)
    step(hooked, images())
    assert len(seen) == 1


def test_others_see_the_modules_operations() -> None:
    for network in (Foreign, small_residual):
        with torch.no_grad():
            program = torch.export.export(accelerate(seeded(network)).eval(), (images(),))
        names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
        assert not any("simroot.root" in name or "simroot.window" in name for name in names)
        assert "aten.conv2d.default" in names
