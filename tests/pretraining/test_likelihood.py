"""At the scale of the likelihood similarities are log-densities: section 5's claim."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from pretraining.support import LEARN_ORDER, generator, network, smooth_images
from simroot.models import deploy
from simroot.models.simnets.architecture import SimNet, Stage
from simroot.pretraining import initialise
from simroot.pretraining.forward import Sweep
from simroot.pretraining.layers import layer_at

# Float32 similarities of whitened patches are sums of some ten terms, each below a hundred.
ROUNDING = 2e-3

# The last convolution pads, so that the similarity before it has a bias.
TWO = (Stage(6, 4, 3), Stage(4, 6, 3, padding=1, groups=2, similarity_groups=2))


def log_joint(patches: Tensor, sweep: Sweep) -> np.ndarray:
    """log P(whitened patch and component), (n, templates), by scipy, from the fitted estimators alone."""
    found = sweep.found
    assert found is not None
    rows = patches.double().numpy()
    parts = np.array_split(rows.reshape(*rows.shape[:2], -1), len(found.whitenings), axis=1)
    white = [
        (part.reshape(len(rows), -1) - each.mean_.numpy()) @ each.components_.numpy().T
        for part, each in zip(parts, found.whitenings, strict=True)
    ]
    seen = np.array_split(np.concatenate(white, 1), len(found.mixtures), axis=1)
    columns = []
    for y, mixture in zip(seen, found.mixtures, strict=True):
        for prior, mean, scale in zip(mixture.weights_, mixture.means_, mixture.scales_, strict=True):
            density = stats.gennorm.logpdf(y, mixture.shape_, loc=mean.numpy(), scale=scale.numpy()).sum(1)
            columns.append(density + np.log(float(prior)))
    return np.stack(columns, 1)


def swept(model: SimNet, layers: int) -> tuple[Sweep, Tensor]:
    """The sweep after some layers, and the patches of the last of them."""
    sweep = Sweep(smooth_images(), generator=generator(), scale="likelihood", patches=600)
    for index in range(layers):
        patches = sweep.layer_patches(model, index)
        sweep.layer(model, index, patches)
    return sweep, patches


@pytest.mark.parametrize("options", [{"order": 2.0}, {"order": 1.0}, {"order": 1.5}, {"learn": LEARN_ORDER}])
@pytest.mark.parametrize("layers", [1, 2])
def test_similarities_are_log_densities(options: dict[str, Any], layers: int) -> None:
    model = network(*TWO, **options).eval()
    sweep, patches = swept(model, layers)
    layer = layer_at(model, layers - 1)
    layer.conv.padding = (0, 0)  # the padding is part of the patches
    with torch.no_grad():
        similarity = layer(patches).flatten(1).double().numpy()
    difference = similarity - log_joint(patches, sweep)
    spread = np.ptp(difference, axis=0)
    assert spread.max() < ROUNDING * np.abs(similarity).max()  # up to a constant of the component
    if layer.similarity.bias is not None:
        assert np.abs(difference).max() < ROUNDING * np.abs(similarity).max()  # exactly with c_l
    if "learn" in options:
        order = layer.similarity.order
        assert isinstance(order, Tensor)
        assert sweep.found is not None
        assert float(order.detach()) == pytest.approx(sweep.found.mixtures[0].shape_)


def test_the_first_layer_has_a_bias_and_the_last_has_none() -> None:
    model = network(*TWO)
    biases = [layer_at(model, index).similarity.bias is not None for index in range(2)]
    assert biases == [True, False]  # what the test above relies on


def test_the_classification_gets_log_densities() -> None:
    model = network(Stage(6, 5, 3)).eval()
    sweep, patches = swept(model, 1)
    with sweep.progress:
        sweep.classification(model)
    with torch.no_grad():
        found = model.norm(model.similarities[0](patches)).flatten(1).double().numpy()
    expected = log_joint(patches, sweep)
    assert np.abs(found - expected).max() < ROUNDING * np.abs(expected).max()


def test_folding_keeps_what_was_initialised() -> None:
    model = network(*TWO)
    images = smooth_images()
    initialise(model, images, generator=generator(), scale="likelihood", patches=600)
    plain = deploy(model)
    with torch.no_grad():
        scores, expected = plain(images), model.eval()(images)
    assert torch.allclose(scores, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
