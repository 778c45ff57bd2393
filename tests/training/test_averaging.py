"""The average of the weights, and all that makes a long training, uninterrupted and resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from simroot.data import ImageData
from simroot.training import RECIPES, TrainingInterrupted, evaluate, load_run, resume, train
from simroot.training.averaging import decay, update
from training.conftest import Install
from training.support import QUICK, tiny_network
from training.test_train import assert_same, rows, weights

LONG = replace(QUICK, epochs=4, ema=0.6, mixup=0.5, cutmix=1.0, ramp=0.5, settle=0.25, erase=0.3, jitter=0.1)
OVERRIDES = {"norm": True, "noise": 0.1}


def test_the_average_is_the_formula() -> None:
    """Against a loop in double precision."""
    torch.manual_seed(0)
    average, model = (tiny_network(3, 3, image_size=8) for _ in range(2))
    expected = [parameter.detach().double().numpy() for parameter in average.parameters()]
    for step in range(1, 12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        update(average, model, 0.5, step)
        d = min(0.5, (1 + step) / (10 + step))
        moved = [parameter.detach().double().numpy() for parameter in model.parameters()]
        expected = [old + (1 - d) * (new - old) for old, new in zip(expected, moved, strict=True)]
    for found, wanted in zip(average.parameters(), expected, strict=True):
        np.testing.assert_allclose(found.detach().numpy(), wanted, rtol=1e-5, atol=1e-6)  # float32
    assert (decay(0.999, 1), decay(0.999, 10**6)) == (2 / 11, 0.999)


def test_the_average_is_the_run_and_the_raw_weights_lie_beside_it(data: ImageData, out: Path) -> None:
    run = train("tiny", data, replace(LONG, epochs=2), out, overrides=OVERRIDES, accelerator="cpu", progress=False)
    saved = torch.load(out / "best.ckpt", weights_only=True)["state_dict"]
    model, raw = load_file(out / "model.safetensors"), load_file(out / "raw.safetensors")
    for name, tensor in model.items():
        assert torch.equal(tensor, saved[f"average.{name}"])
        assert torch.equal(raw[name], saved[f"model.{name}"])
        assert torch.equal(run.model.state_dict()[name], tensor)
    assert not torch.equal(model["0.weight"], raw["0.weight"])
    last = load_run(out, "last")
    figures = json.loads((out / "summary.json").read_text())
    assert evaluate(last, data.val).accuracy == pytest.approx(figures["last_accuracy"])
    assert evaluate(last, data.val).loss == pytest.approx(figures["last_loss"], rel=1e-5)


def test_without_an_average_there_are_no_raw_weights(data: ImageData, out: Path) -> None:
    train("tiny", data, replace(QUICK, epochs=1), out, accelerator="cpu", progress=False)
    assert not (out / "raw.safetensors").exists()


def test_a_long_training_is_resumed_to_the_bit(data: ImageData, out: Path, tmp_path: Path, at_batch: Install) -> None:
    """Interrupted in the second of four epochs, and once more in the last, which settles."""
    options: Any = {"overrides": OVERRIDES, "accelerator": "cpu", "progress": False}
    whole = train("tiny", data, LONG, tmp_path / "whole", **options).path

    def stop_at(number: int) -> None:
        def action(count: int) -> float:
            if count == number:
                raise KeyboardInterrupt
            return 1.0

        at_batch(action)

    stop_at(5)
    with pytest.raises(TrainingInterrupted):
        train("tiny", data, LONG, out, **options)
    stop_at(8)
    with pytest.raises(TrainingInterrupted):
        resume(out, data=data, accelerator="cpu", progress=False)
    at_batch(lambda count: 1.0)
    resume(out, data=data, accelerator="cpu", progress=False)
    for which in ("last", "best"):
        assert_same(weights(out, which), weights(whole, which))
    states = [torch.load(path / "last.ckpt", weights_only=True)["state_dict"] for path in (out, whole)]
    assert_same(*states)
    assert_same(*(load_file(path / "raw.safetensors") for path in (out, whole)))
    kept = [[{**row, "seconds": 0.0} for row in rows(path)] for path in (out, whole)]
    assert kept[0] == kept[1]


def test_ramp_and_settle_at_their_ends() -> None:
    recipe = replace(QUICK, epochs=10, mixup=0.4, cutmix=1.0, ramp=0.5, settle=0.2)
    mixings = [recipe.mixing(epoch) for epoch in range(10)]
    grown = [0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 0, 0]
    assert [mixing.mixup for mixing in mixings] == pytest.approx([0.4 * share for share in grown])
    assert [mixing.cutmix for mixing in mixings] == pytest.approx(grown)
    assert [bool(mixing) for mixing in mixings] == [share > 0 for share in grown]
    assert recipe.settled_from == 8
    assert replace(recipe, ramp=0.0).mixing(0).mixup == 0.4
    assert replace(recipe, settle=0.0).mixing(9).mixup == 0.4
    assert RECIPES["long"].settled_from == 180
