"""Training in integers: the scores are the reference's, to the bit, and the gradients reach every parameter."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from export.c.networks import MEAN, NETWORKS, SIDE, STD, images, made
from simroot.engines.host import channels_last
from simroot.errors import ConfigError
from simroot.export.c import whole
from simroot.export.c.integers import Numbers
from simroot.export.c.ranges import Ranges
from simroot.export.c.straight import Integers
from simroot.export.description import Description
from simroot.layers import MexDense, Similarity2d

DESCRIPTION = Description((3, SIDE, SIDE), mean=MEAN, std=STD)
PIXELS = torch.from_numpy(images(pixels=True, count=32))


@pytest.fixture(scope="module")
def integers() -> dict[str, Integers]:
    return {case: Integers(made(case), DESCRIPTION, PIXELS) for case in NETWORKS}


def normalised(pixels: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (MEAN, STD))
    return (pixels / 255 - mean) / std


def trainable(case: str) -> nn.Module:
    return made(case).requires_grad_(True).train()


@pytest.mark.parametrize("case", NETWORKS)
def test_the_scores_are_the_references(case: str, integers: dict[str, Integers]) -> None:
    """Without gradients to the bit; with them but for the rounding of ``y + (scores - y)`` in float32."""
    model = trainable(case)
    expected = whole.scores(integers[case].layers(model), channels_last(PIXELS.numpy()))
    with torch.no_grad():
        np.testing.assert_array_equal(integers[case](model, normalised(PIXELS)), expected)
    found = integers[case](model, normalised(PIXELS)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("case", NETWORKS)
def test_gradients_are_the_networks_nearly(case: str, integers: dict[str, Integers]) -> None:
    """Of every parameter that the network in float has one of, and in about its direction."""
    model, x = trainable(case), normalised(PIXELS)
    towards = torch.arange(len(x)) % 5
    nn.functional.cross_entropy(integers[case](model, x), towards).backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    nn.functional.cross_entropy(model.eval()(x), towards).backward()
    for name, parameter in model.named_parameters():
        gradient, expected = found[name], parameter.grad
        assert (gradient is None) == (expected is None), name
        if gradient is not None and expected is not None:
            assert gradient.isfinite().all(), name
            assert bool(gradient.any()) == bool(expected.any()), name
    ours, theirs = (
        torch.cat([one.flatten() for one in gradients if one is not None])
        for gradients in (found.values(), [p.grad for p in model.parameters()])
    )
    assert float(nn.functional.cosine_similarity(ours, theirs, dim=0)) > 0.9


def test_the_weights_of_the_moment_count(integers: dict[str, Integers]) -> None:
    model, x = made("mixed"), normalised(PIXELS[:4])
    with torch.no_grad():
        before = integers["mixed"](model, x)
        for module in model.modules():
            if isinstance(module, nn.Conv2d | MexDense | Similarity2d):
                next(module.parameters()).mul_(1.02)
        found = integers["mixed"](model, x)
        near = model(x)
    assert not torch.equal(found, before)
    assert float((found - near).square().mean()) < 0.05**2 * float(near.square().mean())


def test_ranges_can_be_written(integers: dict[str, Integers]) -> None:
    for case, one in integers.items():
        read = Ranges.from_dict(json.loads(json.dumps(one.ranges.to_dict())))
        assert read.numbers == one.ranges.numbers
        again = Integers(made(case), DESCRIPTION, PIXELS, read)
        with torch.no_grad():
            x = normalised(PIXELS[:4])
            assert torch.equal(again(made(case), x), one(made(case), x))


@pytest.mark.parametrize("case", ["everything", "mixed"])
def test_what_scores_lose_on_average_is_added(case: str, integers: dict[str, Integers]) -> None:
    """In ranges of earlier versions nothing was."""
    values = integers[case].ranges.to_dict()
    del values["scores"]
    before = Integers(made(case), DESCRIPTION, PIXELS, Ranges.from_dict(values))
    with torch.no_grad():
        x = normalised(PIXELS)
        expected = made(case)(x)
        lost, more = ((expected - one(made(case), x)).mean(0).abs().max() for one in (integers[case], before))
    assert float(lost) < 0.3 * float(more)


def without_numbers(values: dict[str, Any]) -> None:
    values["numbers"].pop()


def with_a_place(values: dict[str, Any]) -> None:
    values["channels"]["x"] = [1.0]


def of_other_channels(values: dict[str, Any]) -> None:
    next(iter(values["channels"].values())).pop()


def of_other_classes(values: dict[str, Any]) -> None:
    values["scores"].pop()


def of_no_scale(values: dict[str, Any]) -> None:
    values["numbers"][1]["scale"] = 0.0


@pytest.mark.parametrize("damage", [without_numbers, with_a_place, of_other_channels, of_other_classes, of_no_scale])
def test_other_ranges(damage: Any, integers: dict[str, Integers]) -> None:
    values = json.loads(json.dumps(integers["mixed"].ranges.to_dict()))
    damage(values)
    with pytest.raises(ConfigError, match=r"another network|no whole number|scale is 0"):
        Integers(made("mixed"), DESCRIPTION, PIXELS, Ranges.from_dict(values))


def test_a_network_without_pixels() -> None:
    with pytest.raises(ConfigError, match="give its mean and std"):
        Integers(made("mixed"), Description((3, SIDE, SIDE)), PIXELS)


def test_mex_keeps_its_highest_value_when_beta_moves(integers: dict[str, Integers]) -> None:
    model, one = made("mixed"), integers["mixed"]
    unit = next(module for module in model.modules() if isinstance(module, MexDense))
    before = [layer.numbers for layer in one.layers(model)]
    with torch.no_grad():
        unit.beta = unit.beta * 1.5
    after = [layer.numbers for layer in one.layers(model)]
    moved = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert moved
    for a, b in moved:
        assert b.scale == pytest.approx(a.scale / 1.5)
        assert highest(b) == pytest.approx(highest(a), abs=b.scale)


def highest(numbers: Numbers) -> float:
    return (24_000 - numbers.zero) * numbers.scale
