"""Every layer in graph form against its formula in double precision."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.export.forms import graph_form
from simroot.export.mex_forms import MexMatrix
from simroot.export.similarity_forms import LpDifferences, LpOperator, Quadratic
from simroot.layers import GlobalMexPool2d, MexDense, MexPool2d, Similarity2d, WhitenedSimilarity2d
from simroot.models import create_model
from tolerances import TOLERANCES

SIMILARITY = TOLERANCES["similarity", torch.float32].relative
MEX = TOLERANCES["mex", torch.float32].relative
DENSE = TOLERANCES["mex_dense", torch.float32].relative


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1)


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def evaluated(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = graph_form(layer)(x)
    assert result.dtype == torch.float32
    return result


def similarity_terms(layer: Similarity2d, x: Tensor) -> Tensor:
    """u_i |x_i - z_i|^p, or u_i x_i z_i: (N, R, H', W', coordinates), from patches."""
    z, p = layer.templates.detach().double(), float(layer.order)
    u = torch.ones_like(z) if layer.weights is None else layer.weights.detach().double()
    padded = nn.functional.pad(x.double(), (layer.padding,) * 4)
    k = z.shape[2]
    patches = padded.unfold(2, k, layer.stride).unfold(3, k, layer.stride)
    results = []
    for r in range(len(z)):
        first = r // (len(z) // layer.groups) * z.shape[1]
        seen = patches[:, first : first + z.shape[1]]
        template, weight = (tensor[r][:, None, None] for tensor in (z, u))
        terms = weight * (seen - template).abs() ** p if layer.kind == "lp" else -weight * seen * template
        results.append(terms.movedim(1, 3).flatten(3))
    return torch.stack(results, 1)


def require_similarity(layer: Similarity2d, x: Tensor) -> None:
    terms = similarity_terms(layer, x)
    expected = -terms.sum(-1)
    if layer.bias is not None:
        expected = expected + layer.bias.detach().double()[:, None, None]
    error = (evaluated(layer, x) - expected).abs()
    assert (error <= SIMILARITY * (terms.abs().sum(-1) + 1)).all()


@pytest.mark.parametrize("order", [0.5, 1.0, 1.37, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0])
def test_similarity(order: float) -> None:
    layer = Similarity2d(6, 4, 3, order=order, stride=2, padding=1, groups=2, bias=True)
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    require_similarity(layer, images(2, 6, 8, 7))


@pytest.mark.parametrize("options", [{"weighted": False}, {"kind": "linear"}, {"order": 1.0, "weighted": False}])
def test_kinds_of_similarity(options: dict[str, Any]) -> None:
    require_similarity(Similarity2d(6, 4, 2, **options), images(2, 6, 5, 5))


def test_many_coordinates_are_treated_several_at_a_time() -> None:
    layer = Similarity2d(100, 4, 2, order=1.0, groups=2)
    form = LpDifferences(layer)
    assert form.size == 1
    require_similarity(layer, images(2, 100, 4, 4))
    layer = Similarity2d(150, 3, 2, order=1.0)
    assert LpDifferences(layer).size == 3
    require_similarity(layer, images(2, 150, 4, 4))


def test_the_operator_of_ones_own_computes_the_same() -> None:
    layer = Similarity2d(6, 4, 3, order=1.37, stride=2, padding=1, groups=2, bias=True)
    x = images(2, 6, 8, 7)
    with torch.no_grad():
        found, expected = graph_form(layer, LpOperator)(x), graph_form(layer)(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_common_offset_costs_no_digits_of_the_square() -> None:
    layer = Similarity2d(8, 5)
    with torch.no_grad():
        layer.templates = layer.templates / 100 + 50
    require_similarity(layer, images(2, 8, 3, 3) / 100 + 50)


def test_the_centre_goes_into_the_convolution_before() -> None:
    layer = WhitenedSimilarity2d(3, 4, 5, 3)
    form = graph_form(layer)
    assert isinstance(form, nn.Sequential)
    assert isinstance(form[1], Quadratic)
    assert form[1].centre is None
    x = images(2, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(form(x), layer.eval()(x), rtol=1e-4, atol=1e-4)


def mex(values: Tensor, beta: float) -> Tensor:
    """By the definition, over the last axis; NaN is absent."""
    present = ~values.isnan()
    values = values.double()
    if beta == 0:
        return values.nanmean(-1)
    if math.isinf(beta):
        worst = -math.copysign(math.inf, beta)
        filled = values.masked_fill(~present, worst)
        return filled.amax(-1) if beta > 0 else filled.amin(-1)
    # Around the mean, so that a small beta loses nothing in double precision.
    mean = values.nanmean(-1, keepdim=True)
    exponents = (beta * (values - mean)).masked_fill(~present, -math.inf)
    if exponents.abs()[present].max() < 1e-3:
        sums = torch.expm1(exponents).masked_fill(~present, 0.0).sum(-1) / present.sum(-1)
        return mean[..., 0] + torch.log1p(sums) / beta
    return mean[..., 0] + (exponents.logsumexp(-1) - present.sum(-1).double().log()) / beta


BETAS = [0.0, 1e-8, -1e-4, 0.05, 1.0, -3.0, 40.0, math.inf, -math.inf]


@pytest.mark.parametrize("beta", BETAS)
def test_global_pooling(beta: float) -> None:
    x = 3 * images(2, 4, 5, 6) + 20
    expected = mex(x.flatten(2), beta)
    assert (evaluated(GlobalMexPool2d(beta=beta, learn_beta=False), x) - expected).abs().max() <= MEX * x.abs().max()


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("beta", BETAS)
def test_pooling(beta: float, ceil_mode: bool, padding: int) -> None:
    x = 3 * images(2, 4, 8, 7) + 20
    layer = MexPool2d(3, 2, padding, ceil_mode=ceil_mode, beta=beta)
    found = evaluated(layer, x)
    around = nn.functional.pad(x, (1, 4, 1, 4), value=math.nan)
    for i, j in product(range(found.shape[2]), range(found.shape[3])):
        top, left = 1 + 2 * i - padding, 1 + 2 * j - padding
        window = around[:, :, top : top + 3, left : left + 3].flatten(2)
        assert (found[:, :, i, j] - mex(window, beta)).abs().max() <= MEX * x.abs().max()


def test_a_beta_for_each_channel() -> None:
    betas = [0.0, 1e-6, -2.0, 5.0]
    x = images(2, 4, 6, 6)
    for layer in (GlobalMexPool2d(beta=1.0, channels=4), MexPool2d(6, beta=1.0, learn_beta=True, channels=4)):
        layer.beta = torch.tensor(betas)
        found = evaluated(layer, x).flatten(1)
        for channel, beta in enumerate(betas):
            expected = mex(x[:, channel].flatten(1), beta)
            assert (found[:, channel] - expected).abs().max() <= MEX * x.abs().max()


@pytest.mark.parametrize("beta", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 2, 2)])
def test_dense(shape: tuple[int, ...], beta: float) -> None:
    layer = MexDense(6, 4, beta=beta)
    x = images(*shape)
    rows = x.movedim(1, -1).unsqueeze(-2) + layer.offsets.detach()
    expected = mex(rows, beta).movedim(-1, 1)
    scale = x.abs().max() + layer.offsets.abs().max() + 1 / beta
    assert (evaluated(layer, x) - expected).abs().max() <= DENSE * scale


def test_dense_where_the_offsets_take_back_means_far_apart() -> None:
    layer = MexDense(6, 4, beta=0.2)
    means = torch.tensor([0.0, -400.0, -2500.0, 300.0, -90.0, -1000.0])
    with torch.no_grad():
        layer.offsets = layer.offsets - means
    x = images(50, 6) + means
    expected = mex(x[:, None] + layer.offsets.detach(), 0.2)
    assert (evaluated(layer, x) - expected).abs().max() <= DENSE * 2500


def test_what_underflows_stays_finite() -> None:
    layer = MexDense(2, 2, beta=1.0)
    with torch.no_grad():
        layer.offsets = torch.tensor([[0.0, 500.0], [500.0, 0.0]])
    form = graph_form(layer)
    assert isinstance(form, MexMatrix)
    assert form(torch.tensor([[300.0, -300.0], [-300.0, 300.0]])).isfinite().all()


def test_the_network_stays_as_it_is() -> None:
    model = create_model("simnet2_small", channels=(4, 5), order=1.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    graph_form(model)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_layer_with_two_names_is_replaced_under_both() -> None:
    model = nn.Module()
    model.first = model.second = MexPool2d(4, 2, beta=0.5)
    model.third = nn.Sequential(model.first)
    form = graph_form(model)
    assert type(form.first) is not MexPool2d
    assert form.second is form.first
    assert form.get_submodule("third.0") is form.first


def test_an_order_or_beta_that_is_no_number_is_refused() -> None:
    layer = Similarity2d(2, 2)
    layer.order = math.inf
    with pytest.raises(ConfigError, match="order inf"):
        graph_form(layer)
    pool = GlobalMexPool2d(beta=1.0, channels=2)
    pool.beta = torch.tensor([1.0, math.nan])
    with pytest.raises(ConfigError, match="expected finite numbers"):
        graph_form(pool)
