"""Correlation between two layers against NumPy on all responses at once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.layers import UnevenConv2d
from simroot.measure import JointMoments, LayerCorrelation, joint_moments, layer_correlation


def network(**middle: nn.Module) -> nn.Module:
    """Convolution, ReLU in place, then what is given, at least a layer ``b``."""
    torch.manual_seed(0)
    layers = {"a": nn.Conv2d(3, 8, 3, padding=1), "relu": nn.ReLU(inplace=True), **middle}
    return nn.Sequential(OrderedDict(layers))


def images(count: int = 20) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(1)) * 3 + 50  # a large mean


def in_batches(x: Tensor, size: int = 7) -> list[Tensor]:
    return list(x.split(size))


@torch.no_grad()
def samples(model: nn.Module, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The responses of ``a`` and ``b`` at every position as (positions, channels); b's grid repeated by 2 if halved."""
    parts = dict(model.named_children())
    a = parts["a"](x)
    h = a.clamp(min=0)
    for name in list(parts)[2:]:
        h = parts[name](h)
    if h.shape[2] != a.shape[2]:
        h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return a.permute(0, 2, 3, 1).flatten(0, 2).double().numpy(), h.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()


def inverse_root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors / np.sqrt(values)) @ vectors.T


def reference(model: nn.Module, x: Tensor, whiten: bool) -> NDArray[np.float64]:
    a, b = samples(model, x)
    if not whiten:
        return np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]
    a, b = a - a.mean(0), b - b.mean(0)
    count = len(a)
    return inverse_root(a.T @ a / count) @ (a.T @ b / count) @ inverse_root(b.T @ b / count)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("pooled", [False, True])
def test_matrix_is_the_formula(whiten: bool, pooled: bool) -> None:
    between: dict[str, nn.Module] = {"pool": nn.MaxPool2d(2)} if pooled else {}
    model = network(**between, b=nn.Conv2d(8, 4, 3, padding=1, groups=2))
    x = images()
    moments = joint_moments(model, "a", "b", in_batches(x))
    found = layer_correlation(model, "a", "b", moments, whiten=whiten)
    assert found.matrix.dtype == torch.float64
    assert found.samples == 20 * 36
    # The network itself computes in float32.
    np.testing.assert_allclose(found.matrix.numpy(), reference(model, x, whiten), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 20])
def test_batches_do_not_matter(size: int) -> None:
    model = network(b=nn.Conv2d(8, 4, 1))
    whole, parts = (joint_moments(model, "a", "b", in_batches(images(), n)) for n in (20, size))
    torch.testing.assert_close(parts.scatter, whole.scatter, rtol=1e-5, atol=1e-4)  # float32 convolutions
    assert parts.count == whole.count


def test_moments_keep_their_digits_at_large_means() -> None:
    values = torch.randn(50_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 1e6
    moments = JointMoments(2, 1)
    for chunk in values.split(17_001):
        moments.update(chunk)
    expected = np.cov(values.numpy().T) * (len(values) - 1)
    np.testing.assert_allclose(moments.scatter.numpy(), expected, rtol=1e-8, atol=1e-3)


def test_a_layer_with_itself_is_the_identity_when_whitened() -> None:
    model = network(b=nn.Conv2d(8, 4, 1))
    moments = joint_moments(model, "a", "a", in_batches(images()))
    found = layer_correlation(model, "a", "a", moments)
    torch.testing.assert_close(found.matrix, torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-6)
    assert found.block_diagonality is None  # one group
    assert layer_correlation(model, "a", "a", moments, groups=4).block_diagonality == pytest.approx(1, abs=1e-6)


def test_channels_that_do_not_vary_have_no_correlation() -> None:
    model = network(b=nn.Conv2d(8, 4, 1))
    with torch.no_grad():
        model.get_parameter("b.weight")[1] = 0
    moments = joint_moments(model, "a", "b", in_batches(images()))
    for whiten in (False, True):
        found = layer_correlation(model, "a", "b", moments, whiten=whiten)
        assert float(found.matrix[:, 1].abs().max()) < 1e-12  # nothing but float64's rounding
        assert bool(found.matrix.isfinite().all())


def test_separate_groups_are_block_diagonal() -> None:
    """Two halves of the image's channels that never meet: all correlation lies in the blocks."""
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(a=nn.Conv2d(4, 8, 1, groups=2), b=nn.Conv2d(8, 4, 1, groups=2)))
    x = torch.randn(400, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    found = layer_correlation(model, "a", "b", joint_moments(model, "a", "b", [x]))
    assert (found.rows, found.columns, found.uniform) == ((4, 4), (2, 2), 0.5)
    assert found.block_diagonality == pytest.approx(1, abs=0.01)  # 6400 independent samples


def known(matrix: list[list[float]], rows: tuple[int, ...], columns: tuple[int, ...]) -> LayerCorrelation:
    return LayerCorrelation(("a", "b"), torch.tensor(matrix, dtype=torch.float64), False, 9, rows, columns)


def test_the_number() -> None:
    assert known([[0.5, 0.5], [0.5, 0.5]], (1, 1), (1, 1)).block_diagonality == pytest.approx(0)
    assert known([[0, -0.5], [0.5, 0]], (1, 1), (1, 1)).block_diagonality == pytest.approx(-1)
    unequal = known([[0.6, 0.0], [0.0, 0.3], [0.0, 0.3], [0.3, 0.0]], (1, 3), (1, 1))
    share = (0.36 + 0.18) / (0.36 + 0.27)
    assert unequal.share == pytest.approx(share)
    assert unequal.uniform == 0.5
    assert unequal.block_diagonality == pytest.approx(2 * share - 1)
    assert known([[0.0, 0.0], [0.0, 0.0]], (1, 1), (1, 1)).share == 0


def test_arranging_finds_hidden_blocks() -> None:
    label = torch.tensor([0, 1, 0, 1, 1, 0])
    hidden = known((0.9 * (label[:, None] == label[None])).tolist(), (3, 3), (3, 3))
    assert hidden.block_diagonality == pytest.approx(1 / 9)
    arranged = hidden.arrange()
    assert arranged.arranged
    assert arranged.block_diagonality == pytest.approx(1)
    assert arranged.matrix.square().sum() == pytest.approx(hidden.matrix.square().sum())


def test_unequal_groups_of_the_second_layer_are_the_blocks() -> None:
    model = network(b=UnevenConv2d([nn.Conv2d(4, 2, 1), nn.Conv2d(2, 1, 1), nn.Conv2d(2, 1, 1)]))
    found = layer_correlation(model, "a", "b", joint_moments(model, "a", "b", in_batches(images())))
    assert (found.rows, found.columns) == ((4, 2, 2), (2, 1, 1))


def test_dense_layers_are_repeated_over_the_grid() -> None:
    model = network(flatten=nn.Flatten(), b=nn.Linear(8 * 36, 4))
    moments = joint_moments(model, "a", "b", in_batches(images()))
    assert moments.channels == (8, 4)
    with torch.no_grad():
        b = model(images()).double().numpy().repeat(36, 0)
    np.testing.assert_allclose(moments.mean[8:].numpy(), b.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.scatter[8:, 8:].numpy(), (b - b.mean(0)).T @ (b - b.mean(0)), rtol=1e-3)


def test_the_network_is_left_as_it_was() -> None:
    model = network(norm=nn.BatchNorm2d(8), b=nn.Conv2d(8, 4, 1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    joint_moments(model, "norm", "b", in_batches(images()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        self.b((x, x))
        return self.a(self.a(x))


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: joint_moments(network(b=nn.ReLU()), "a", "c", [images()]), "no layer 'c'; its layers are a, relu, b"),
        (lambda: joint_moments(network(b=nn.ReLU()), "a", "", [images()]), "no layer ''"),
        (lambda: joint_moments(Twice(), "a", "b", [images()]), "layer 'a' .* it is called 2 times for each batch"),
        (lambda: joint_moments(Twice(), "b", "b", [images()]), "layer 'b' .* it gives a tuple for each batch"),
        (lambda: joint_moments(network(b=nn.ReLU()), "a", "b", []), "at least two samples"),
        (lambda: grouped(3), "3 groups do not divide the 8 and 4 channels of a and b"),
        (lambda: grouped([2, 1]), r"\[2, 1\] groups do not divide the 8 and 4 channels"),
    ],
)
def test_mistakes(measure: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measure()


def grouped(groups: int | list[int]) -> LayerCorrelation:
    model = network(b=nn.Conv2d(8, 4, 1))
    moments = joint_moments(model, "a", "b", in_batches(images()))
    return layer_correlation(model, "a", "b", moments, groups=groups)


def test_figure_marks_the_blocks(tmp_path: Path) -> None:
    found = known([[0.6, 0.0], [0.0, 0.3], [0.0, 0.3], [0.3, 0.0]], (1, 3), (1, 1))
    figure = found.figure("two layers")
    axes = figure.axes[0]
    assert [(box.get_y(), box.get_height(), box.get_x(), box.get_width()) for box in axes.patches] == [  # type: ignore[attr-defined]
        (-0.5, 1, -0.5, 1),
        (0.5, 3, 0.5, 1),
    ]
    assert f"block-diagonality {found.block_diagonality:.3f}" in axes.get_title()
    figure.savefig(tmp_path / "figure.png")
