"""Networks for images that are not square."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from simroot.errors import ConfigError
from simroot.measure import count
from simroot.models import create_model, deploy, list_models, model_entry

# Variants differ in groups alone.
NAMES = [name for name in list_models() if not any(kind in name for kind in ("_root", "_column", "_tree", "_groups"))]


@pytest.mark.parametrize("name", NAMES)
def test_every_network_takes_rectangles(name: str) -> None:
    large = model_entry(name).image_size > 100
    height = 64 if large else 32
    size = (height, 2 * height)
    with torch.device("meta" if large else "cpu"):
        model = deploy(create_model(name, 3, 1, image_size=size))
        with torch.no_grad():
            assert model(torch.zeros(2, 1, *size)).shape == (2, 3)
    if not large:
        assert count(model, (1, *size)).parameters > 0


@pytest.mark.parametrize("name", ["simnet2", "simnet_mixed", "convnet_caffe"])
def test_a_square_may_be_named_by_both_sides(name: str) -> None:
    sizes = [count(create_model(name, image_size=size), (3, 32, 32)) for size in (32, [32, 32])]
    assert sizes[0].parameters == sizes[1].parameters
    assert sizes[0].macs == sizes[1].macs


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("simnet2", (32, 14), r"image_size of simnet2 is \(32, 14\); the smallest that works is 15"),
        ("simnet_mixed", (32, 32, 32), "image_size of simnet_mixed is"),
        ("googlenet", (224, 225), None),
    ],
)
def test_sizes_that_are_refused(name: str, size: tuple[int, ...], message: str | None) -> None:
    options: dict[str, Any] = {} if message else {"layout": "padded"}
    with pytest.raises(ConfigError, match=message or "the padded layout works with 224 alone"):
        create_model(name, image_size=size, **options)
