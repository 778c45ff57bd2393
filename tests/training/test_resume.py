import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from simroot.data import ImageData
from simroot.errors import CheckpointError, DataError
from simroot.training import TrainingInterrupted, load_run, resume, train
from training.conftest import Install
from training.support import QUICK
from training.test_train import assert_same, rows, weights

OVERRIDES = {"norm": True, "noise": 0.1}
AUGMENTED = replace(QUICK, rotate=5.0, zoom=0.1, jitter=0.1, erase=0.3)


def start(data: ImageData, out: Path) -> None:
    train("tiny", data, AUGMENTED, out, overrides=OVERRIDES, accelerator="cpu", progress=False)


def go_on(data: ImageData | None, out: Path) -> None:
    resume(out, data=data, accelerator="cpu", progress=False)


@pytest.fixture
def whole(data: ImageData, tmp_path: Path) -> Path:
    """An uninterrupted run."""
    path = tmp_path / "whole"
    start(data, path)
    return path


@pytest.fixture
def interrupted(data: ImageData, out: Path, at_batch: Install) -> Callable[[int], None]:
    """Starts a run in ``out`` that ends with Ctrl-C in the given batch of nine."""

    def run(number: int) -> None:
        def action(count: int) -> float:
            if count == number:
                raise KeyboardInterrupt
            return 1.0

        at_batch(action)
        with pytest.raises(TrainingInterrupted):
            start(data, out)
        at_batch(lambda count: 1.0)

    return run


def strip(path: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows(path)]


@pytest.mark.parametrize("number", [1, 3, 4, 8])
def test_resumed_run_is_bit_identical(
    data: ImageData, out: Path, whole: Path, interrupted: Callable[[int], None], number: int
) -> None:
    interrupted(number)
    (out / ".last.ckpt.123.tmp").write_bytes(b"left by a kill")
    go_on(data, out)
    assert not list(out.glob(".*"))
    assert_same(weights(out, "last"), weights(whole, "last"))
    assert_same(weights(out, "best"), weights(whole, "best"))
    assert strip(out) == strip(whole)
    states = [torch.load(path / "last.ckpt", weights_only=True) for path in (out, whole)]
    assert repr(states[0]["optimizer_states"]) == repr(states[1]["optimizer_states"])
    assert states[0]["lr_schedulers"] == states[1]["lr_schedulers"]
    summaries = [json.loads((path / "summary.json").read_text()) for path in (out, whole)]
    for key in ("accuracy", "loss", "best_epoch", "last_accuracy", "epochs", "recipe"):
        assert summaries[0][key] == summaries[1][key]


def test_a_kill_between_the_best_checkpoint_and_its_weights(data: ImageData, out: Path, whole: Path) -> None:
    start(data, out)
    checkpoint = torch.load(out / "best.ckpt", weights_only=True)
    for name in ("last.ckpt", "model.safetensors", "metrics.csv", "summary.json"):
        (out / name).unlink()
    go_on(data, out)
    assert checkpoint["epoch"] == json.loads((out / "summary.json").read_text())["best_epoch"] - 1
    assert_same(weights(out, "best"), weights(whole, "best"))
    assert_same(weights(out, "last"), weights(whole, "last"))


@pytest.mark.parametrize("history", [[], 5, [3], [{"epoch": 1.0}]])
def test_a_checkpoint_without_a_history(data: ImageData, whole: Path, history: object) -> None:
    state = torch.load(whole / "last.ckpt", weights_only=True)
    for name in ("last.ckpt", "best.ckpt"):
        torch.save({**state, "history": history}, whole / name)
    with pytest.raises(CheckpointError, match="its history has no row for every epoch"):
        go_on(data, whole)


def test_complete_run_is_only_finished(data: ImageData, whole: Path) -> None:
    before = weights(whole)
    for name in ("summary.json", "metrics.csv", "curves.png"):
        (whole / name).unlink()
    go_on(data, whole)
    assert_same(weights(whole), before)
    assert [row["epoch"] for row in rows(whole)] == [1, 2, 3]
    assert (whole / "summary.json").exists()


def test_data_is_loaded_again(out: Path, data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def load(**arguments: object) -> ImageData:
        asked.append(arguments)
        return data

    monkeypatch.setattr("simroot.data.load", load)
    source = {"name_or_path": Path("pictures"), "limit": 48}
    train("tiny", data, QUICK, out, data_source=source, accelerator="cpu", progress=False)
    go_on(None, out)
    (arguments,) = asked
    assert arguments == {**arguments, "name_or_path": str(Path("pictures").resolve()), "limit": 48}


def test_what_a_recipe_leaves_open_is_decided_by_the_data(
    data: ImageData, out: Path, interrupted: Callable[[int], None]
) -> None:
    interrupted(2)
    config = out / "config.yaml"
    text = config.read_text()
    edited = re.sub(r"(shift|mirror): \w+", r"\1: null", text)
    assert edited != text
    config.write_text(edited)
    go_on(data, out)
    assert [row["epoch"] for row in rows(out)] == [1, 2, 3]


def test_unknown_or_changed_data(data: ImageData, whole: Path) -> None:
    with pytest.raises(CheckpointError, match="does not say where its data came from"):
        go_on(None, whole)
    with pytest.raises(DataError, match=r"classes is .*'dog'.*, expected .*'cat'"):
        go_on(replace(data, classes=("ant", "bee", "dog")), whole)
    with pytest.raises(DataError, match="train is 47, expected 48"):
        go_on(replace(data, train=data.train.subset(torch.arange(47))), whole)
    with pytest.raises(DataError, match="mean"):
        go_on(replace(data, mean=(0.0, 0.0, 0.0)), whole)


def test_truncated_last_checkpoint_falls_back_to_the_best(
    data: ImageData, out: Path, whole: Path, interrupted: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(8)
    last = out / "last.ckpt"
    last.write_bytes(last.read_bytes()[:2000])
    go_on(data, out)
    assert "last.ckpt is damaged or truncated" in caplog.text
    assert "going on from best.ckpt" in caplog.text
    assert_same(weights(out), weights(whole))
    assert strip(out) == strip(whole)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_no_readable_checkpoint(data: ImageData, whole: Path, content: bytes) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        (whole / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"best.ckpt (is damaged|holds more)"):
        go_on(data, whole)


def test_flipped_bit_is_noticed(data: ImageData, whole: Path) -> None:
    last = whole / "last.ckpt"
    content = bytearray(last.read_bytes())
    position = content.find(weights(whole)["8.bias"].numpy().tobytes())
    assert position > 0
    content[position] ^= 1
    last.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.ckpt is damaged"):
        load_run(whole, "last")


class Hostile:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (exec, ("raise SystemExit('code of the file was run')",))


def test_hostile_checkpoint_is_refused(data: ImageData, whole: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        torch.save({"state_dict": Hostile(), "history": []}, whole / name)
    with pytest.raises(CheckpointError, match="more than tensors and plain values and was not loaded"):
        load_run(whole, "last")
    with pytest.raises(CheckpointError, match="was not loaded"):
        go_on(data, whole)
    (whole / "last.ckpt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError):
        load_run(whole, "last")


def test_foreign_checkpoint_is_refused(whole: Path) -> None:
    torch.save({"weights": torch.ones(2)}, whole / "last.ckpt")
    with pytest.raises(CheckpointError, match="no checkpoint of simroot train"):
        load_run(whole, "last")


def test_other_threads_are_told(data: ImageData, whole: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = whole / "config.yaml"
    text = config.read_text()
    threads = torch.get_num_threads()
    config.write_text(text.replace(f"threads: {threads}", f"threads: {threads + 3}"))
    go_on(data, whole)
    assert f"threads was {threads + 3} and is {threads}" in caplog.text


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no run: config\.yaml is missing"):
        resume(tmp_path)
