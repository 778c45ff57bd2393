"""What every registered network must satisfy."""

from __future__ import annotations

import pytest
import torch

from simroot.measure import count
from simroot.models import create_model, list_models, model_entry

MODELS = list_models()


@pytest.mark.parametrize("name", MODELS)
def test_declared_size_is_the_counted_size(name: str) -> None:
    entry = model_entry(name)
    cost = count(create_model(name, entry.num_classes, entry.in_channels), entry.input_size)
    assert (cost.parameters, cost.macs) == (entry.parameters, entry.macs)
    assert sum(layer.parameters for layer in cost.layers) == cost.parameters


@pytest.mark.parametrize("name", MODELS)
def test_scores_have_a_row_per_image_and_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    entry = model_entry(name)
    model = create_model(name, num_classes=5, in_channels=1)
    scores = model(torch.randn(4, 1, entry.image_size, entry.image_size))
    assert scores.shape == (4, 5)
    torch.nn.functional.cross_entropy(scores, torch.arange(4)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.count_nonzero() > 0, parameter_name
