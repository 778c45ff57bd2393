"""Checkpoints from anywhere: what does not fit the run is refused before it is used."""

import os
import warnings
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn

from simroot.data import ImageData
from simroot.errors import CheckpointError
from simroot.training import Recipe, resume, train
from simroot.training.checkpoint_file import read_checkpoint, restored
from simroot.training.optim import build_optimizer, build_schedule
from training.support import QUICK, tiny_network

Content = dict[str, Any]
ROW = {"train_loss": 1.0, "train_accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5, "learning_rate": 0.1}
ADAMW = Recipe(**{**QUICK.to_dict(), "optimizer": "adamw"})
MUON = Recipe(**{**QUICK.to_dict(), "optimizer": "muon"})


def network() -> nn.Module:
    torch.manual_seed(0)
    return tiny_network(3, 3, image_size=8, width=4, norm=True).to(memory_format=torch.channels_last)


def content(recipe: Recipe) -> Content:
    """A checkpoint after two epochs of three steps."""
    model = network()
    optimizer = build_optimizer(model, recipe)
    schedule = build_schedule(optimizer, recipe, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(6):
            model(torch.randn(4, 3, 8, 8)).square().sum().backward()
            optimizer.step()
            schedule.step()
    return {
        "epoch": 1,
        "global_step": 6,
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [schedule.state_dict()],
        "history": [{"epoch": epoch, **ROW, "seconds": 1.0} for epoch in (1, 2)],
        "loops": {},
        "callbacks": {},
    }


@cache
def counters() -> Content:
    """Of Lightning's loop before a training."""
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).fit_loop.state_dict()


def go_on(path: Path, saved: object, recipe: Recipe = QUICK) -> Content:
    if not isinstance(saved, bytes):
        torch.save(saved, path)
    return restored(read_checkpoint(path), network(), recipe, counters())


@pytest.mark.parametrize("recipe", [QUICK, ADAMW, MUON], ids=["sgd", "adamw", "muon"])
def test_what_a_training_goes_on_with(tmp_path: Path, recipe: Recipe) -> None:
    saved = content(recipe)
    found = go_on(tmp_path / "a.ckpt", saved, recipe)
    assert (found["epoch"], found["global_step"], found["history"]) == (1, 6, saved["history"])
    for name, tensor in saved["state_dict"].items():
        assert torch.equal(found["state_dict"][name], tensor)
        assert found["state_dict"][name].stride() == tensor.stride()
    (state,), (expected,) = found["optimizer_states"], saved["optimizer_states"]
    assert state["param_groups"] == expected["param_groups"]
    assert state["state"].keys() == expected["state"].keys()
    for number, kept in expected["state"].items():
        assert all(torch.equal(state["state"][number][name], tensor) for name, tensor in kept.items())
    lambdas = {"lr_lambdas": None}
    assert [{**each, **lambdas} for each in found["lr_schedulers"]] == [
        {**each, **lambdas} for each in saved["lr_schedulers"]
    ]


def test_averages_take_the_layout_of_their_parameters(tmp_path: Path) -> None:
    """Fused steps go through memory as it lies: in another layout they would mix the numbers up, or leave them."""
    saved = content(QUICK)
    state = saved["optimizer_states"][0]["state"]
    before = {number: kept["momentum_buffer"].clone() for number, kept in state.items()}
    for kept in state.values():
        kept["momentum_buffer"] = kept["momentum_buffer"].contiguous(memory_format=torch.contiguous_format)
    found = go_on(tmp_path / "a.ckpt", saved)["optimizer_states"][0]
    order = [parameter for group in build_optimizer(network(), QUICK).param_groups for parameter in group["params"]]
    for number, kept in found["state"].items():
        assert torch.equal(kept["momentum_buffer"], before[number])
        assert kept["momentum_buffer"].stride() == order[number].stride()


@pytest.mark.parametrize(
    "part", ["loops", "callbacks", "lr_schedulers", "epoch", "hparams", "pytorch-lightning_version"]
)
@pytest.mark.parametrize("value", [3, "x", [1], None, {"a": 1}, float("nan")], ids=str)
def test_what_is_made_anew_may_be_anything(tmp_path: Path, part: str, value: object) -> None:
    assert go_on(tmp_path / "a.ckpt", {**content(QUICK), part: value})["global_step"] == 6


@pytest.mark.parametrize("part", ["state_dict", "optimizer_states", "history", "global_step"])
@pytest.mark.parametrize("value", [-1, 5, 10**17, "x", [1], [], [None], None, {}, {"a": 1}, True, 2.5], ids=str)
def test_parts_of_another_type(tmp_path: Path, part: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint|optimizer") as caught:
        go_on(tmp_path / "a.ckpt", {**content(QUICK), part: value})
    assert len(str(caught.value)) < 1000


def replaced(saved: Content, tensor: object) -> Content:
    name = "model.0.weight"
    return {**saved, "state_dict": {**saved["state_dict"], name: tensor}}


def kept(saved: Content, tensor: object, name: str = "momentum_buffer", number: object = 0) -> Content:
    state = saved["optimizer_states"][0]
    return {**saved, "optimizer_states": [{**state, "state": {**state["state"], number: {name: tensor}}}]}


shape = (4, 3, 3, 3)


@pytest.mark.parametrize("put", [replaced, kept])
@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1), r"expected \(4, 3, 3, 3\)"),
        (torch.zeros(3, 4, 3, 3), r"expected \(4, 3, 3, 3\)"),
        (torch.zeros(shape, dtype=torch.float64), "torch.float64, expected torch.float32"),
        (torch.zeros(shape, dtype=torch.int64), "torch.int64, expected torch.float32"),
        (torch.full(shape, torch.nan), "not finite"),
        (torch.zeros(shape, dtype=torch.bool), "more than tensors"),
        (torch.zeros(shape, dtype=torch.complex64), "more than tensors"),
        (torch.zeros(shape).to_sparse(), "more than tensors"),
        (torch.zeros(shape, device="meta"), "more than tensors"),
        (torch.zeros(1).expand(shape), "has 1 numbers"),
        (nn.Parameter(torch.zeros(shape)), "more than tensors"),
        ([0.0], "no tensors with names|what it keeps"),
        (None, "no tensors with names|what it keeps"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # of making such tensors
def test_other_tensors(tmp_path: Path, put: Callable[[Content, object], Content], tensor: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        go_on(tmp_path / "a.ckpt", put(content(QUICK), tensor))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: kept(saved, torch.zeros(shape), name="exp_avg"), "exp_avg is not part"),
        (lambda saved: kept(saved, torch.zeros(shape), number=99), "not of the network's parameters"),
        (lambda saved: kept(saved, torch.zeros(shape), number="x"), "not of the network's parameters"),
        (lambda saved: {**saved, "optimizer_states": [{"state": [1]}]}, "not of the network's parameters"),
        (lambda saved: {**saved, "optimizer_states": ["x"]}, "does not fit the recipe's"),
        (lambda saved: {**saved, "global_step": 7}, "has 7 steps in 2 epochs"),
        (lambda saved: {**saved, "history": saved["history"][::-1]}, "no row for every epoch"),
        (lambda saved: {**saved, "history": saved["history"][1:]}, "no row for every epoch"),
        (lambda saved: {**saved, "history": [{**saved["history"][0], "val_loss": "x"}]}, "val_loss is 'x'"),
        (lambda saved: {**saved, "history": [{**saved["history"][0], "\x1b[2J": 1}]}, r"has no '\\x1b\[2J'"),
        (lambda saved: {key: value for key, value in saved.items() if key != "history"}, "lacks the weights or"),
        (lambda saved: [saved], "lacks the weights or"),
    ],
)
def test_parts_that_do_not_fit(tmp_path: Path, change: Callable[[Content], object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        go_on(tmp_path / "a.ckpt", change(content(QUICK)))


def averaged(**other: torch.Tensor) -> Content:
    """A checkpoint with an average of the weights."""
    saved = content(QUICK)
    average = {name.replace("model.", "average."): 2 * tensor for name, tensor in saved["state_dict"].items()}
    return {**saved, "state_dict": {**saved["state_dict"], **average, **other}}


def test_an_average_of_the_weights(tmp_path: Path) -> None:
    """It is asked for by the recipe alone, and checked as the weights are."""
    recipe, saved = Recipe(**{**QUICK.to_dict(), "ema": 0.9}), averaged()
    found = go_on(tmp_path / "a.ckpt", saved, recipe)["state_dict"]
    assert found.keys() == saved["state_dict"].keys()
    for name, tensor in saved["state_dict"].items():
        assert torch.equal(found[name], tensor)
        assert found[name].stride() == tensor.stride()
    assert go_on(tmp_path / "a.ckpt", saved)["state_dict"].keys() == content(QUICK)["state_dict"].keys()
    failure = "average of the weights does not fit the network"
    with pytest.raises(CheckpointError, match=failure):
        go_on(tmp_path / "a.ckpt", content(QUICK), recipe)
    for tensor in (torch.zeros(1), torch.zeros(shape, dtype=torch.float64), torch.full(shape, torch.nan)):
        with pytest.raises(CheckpointError, match=f"{failure}: 0.weight is"):
            go_on(tmp_path / "a.ckpt", averaged(**{"average.0.weight": tensor}), recipe)


def repacked(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, part in parts.items():
            archive.writestr(name, change(name, part))


@pytest.mark.parametrize(
    ("name", "change", "compression", "message"),
    [
        ("data/0", lambda part: part[:4], zipfile.ZIP_STORED, "numbers has 4 bytes"),
        ("data/0", lambda part: part * 2, zipfile.ZIP_STORED, "numbers has"),
        ("data/0", lambda part: part, zipfile.ZIP_DEFLATED, "packed in an unusual way"),
        ("byteorder", lambda part: b"big", zipfile.ZIP_STORED, "another byte order"),
        ("data.pkl", lambda part: part[:-1], zipfile.ZIP_STORED, "damaged"),
        ("data.pkl", lambda part: b"", zipfile.ZIP_STORED, "damaged"),
        ("data.pkl", lambda part: b"}" + b")" + b"\x85" * 10**5 + b"K\x01s.", zipfile.ZIP_STORED, "damaged"),
        ("data.pkl", lambda part: b"cposix\nsystem\n.", zipfile.ZIP_STORED, "unpickling posix.system could run any"),
    ],
)
def test_archives_changed_by_hand(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes], compression: int, message: str
) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(content(QUICK), path)
    repacked(path, lambda entry, part: change(part) if entry.endswith(f"/{name}") else part, compression)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices of POSIX")
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name, message in (
        ("pipe", "a pipe or device"),
        ("link", "a pipe or device"),
        (".", "a folder"),
        ("no", "exist"),
    ):
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(tmp_path / name)


def test_a_last_checkpoint_of_other_shapes_gives_way_to_the_best(
    data: ImageData, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train("tiny", data, QUICK, out, accelerator="cpu", progress=False)
    (out / "summary.json").unlink()
    saved = torch.load(out / "last.ckpt", weights_only=True)
    torch.save(kept(saved, torch.zeros(1)), out / "last.ckpt")
    resume(out, data=data, accelerator="cpu", progress=False)
    assert "last.ckpt is damaged or of another run: the checkpoint's optimizer does not fit" in caplog.text
    assert "going on from best.ckpt" in caplog.text
    assert (out / "summary.json").exists()
