"""What every registered network must satisfy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from simroot.measure import count
from simroot.models import create_model, deploy, list_models, model_entry
from simroot.models.baselines.googlenet import AuxiliaryScores


def is_large(name: str) -> bool:
    return model_entry(name).image_size > 100


def marked(name: str) -> Any:
    """Variants of large networks, which differ in groups alone, are for the slow tests."""
    slow = is_large(name) and ("_root" in name or "_groups" in name)
    return pytest.param(name, marks=pytest.mark.slow if slow else ())


MODELS = [marked(name) for name in list_models()]


@pytest.mark.parametrize("name", MODELS)
def test_declared_size_is_the_counted_size(name: str) -> None:
    entry = model_entry(name)
    # Large networks are counted without computing: on torch's meta device.
    with torch.device("meta" if is_large(name) else "cpu"):
        model = create_model(name, entry.num_classes, entry.in_channels)
    cost = count(deploy(model), entry.input_size)
    assert (cost.parameters, cost.macs) == (entry.parameters, entry.macs)
    assert sum(layer.parameters for layer in cost.layers) == cost.parameters


@pytest.mark.parametrize("name", MODELS)
def test_scores_have_a_row_per_image_and_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    size = min(model_entry(name).image_size, 64)
    model = create_model(name, num_classes=5, in_channels=1, image_size=size)
    output = model(torch.randn(4, 1, size, size))
    heads = (output.scores, *output.auxiliary) if isinstance(output, AuxiliaryScores) else (output,)
    assert all(scores.shape == (4, 5) for scores in heads)
    functional.cross_entropy(torch.cat(heads), torch.arange(4).repeat(len(heads))).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.count_nonzero() > 0, parameter_name
