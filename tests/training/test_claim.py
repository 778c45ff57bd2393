"""One training at a time in a directory, and nothing left by one that could not start."""

import errno
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

import pytest
import torch
from filelock import FileLock
from safetensors.torch import save_file
from torch import nn

from simroot.data import ImageData
from simroot.errors import CheckpointError, ConfigError, TrainingError
from simroot.training import Run, recipe, resume, train
from simroot.training.claim import LOCK, InUseError, claimed
from training.conftest import Install
from training.support import QUICK, tiny_network

BAD = float("nan")


def start(data: ImageData, out: Path, **changes: object) -> Run:
    return train("tiny", data, recipe(**{**QUICK.to_dict(), **changes}), out, accelerator="cpu", progress=False)


def test_a_second_training_is_refused_and_harms_nothing(data: ImageData, out: Path) -> None:
    with FileLock(elsewhere(out)):
        with pytest.raises(InUseError, match=f"{out} is in use: another training is running there"):
            start(data, out)
        assert [path.name for path in out.iterdir()] == [LOCK]
    start(data, out, epochs=1)
    assert not (out / LOCK).exists()


def test_resuming_a_running_training_is_refused(data: ImageData, out: Path) -> None:
    start(data, out, epochs=1)
    with FileLock(elsewhere(out)), pytest.raises(InUseError, match="is in use"):
        resume(out, data=data)


def elsewhere(out: Path) -> Path:
    """The lock as another process takes it."""
    out.mkdir(exist_ok=True)
    return out / LOCK


def test_another_thread_is_another_training(tmp_path: Path) -> None:
    found: list[BaseException | None] = []

    def claim() -> None:
        try:
            with claimed(tmp_path / "run"):
                found.append(None)
        except InUseError as error:
            found.append(error)

    with claimed(tmp_path / "run"), claimed(tmp_path / "run"):
        thread = threading.Thread(target=claim)
        thread.start()
        thread.join()
    assert isinstance(found[0], InUseError)
    assert not (tmp_path / "run").exists()


def test_a_killed_training_does_not_block(tmp_path: Path) -> None:
    script = f"import os, filelock; filelock.FileLock({str(elsewhere(tmp_path))!r}).acquire(); os.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert (tmp_path / LOCK).exists()
    with claimed(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks(tmp_path: Path) -> None:
    with (
        mock.patch.object(FileLock, "acquire", side_effect=OSError(errno.ENOLCK, "No locks available")),
        claimed(tmp_path / "run"),
    ):
        assert (tmp_path / "run" / LOCK).exists()
    assert not (tmp_path / "run").exists()


def test_directories_that_cannot_be_used(data: ImageData, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ConfigError, match=f"{path} (is a file|cannot be used: Not a directory)"):
            start(data, path)


def broken(path: Path) -> Path:
    state = tiny_network(3, 3, image_size=8).state_dict()
    state["0.bias"][1] = BAD
    save_file(state, path)
    return path


def test_start_weights_that_are_not_finite(data: ImageData, out: Path, tmp_path: Path) -> None:
    initial = broken(tmp_path / "start.safetensors")
    with pytest.raises(CheckpointError, match=r"0\.bias is not finite"):
        train("tiny", data, QUICK, out, initial=initial, progress=False)
    assert not out.exists()


@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (MemoryError(), TrainingError, "memory does not suffice to train tiny with batches of 16 images of 8 x 8"),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you"), TrainingError, "memory"),
        (RuntimeError("some other"), ConfigError, "cannot be trained on 16 images of .3, 8, 8.: some other"),
        (KeyError("anything"), ConfigError, "anything"),
        (ArithmeticError("nobody foresaw"), ArithmeticError, "nobody foresaw"),
    ],
)
def test_a_training_that_fails_in_its_first_epoch_leaves_nothing(
    data: ImageData, out: Path, at_batch: Install, failure: Exception, expected: type[Exception], message: str
) -> None:
    def action(count: int) -> float:
        raise failure

    at_batch(action)
    with pytest.raises(expected, match=message):
        start(data, out / "deep")
    assert not out.exists()


def test_a_loss_that_is_never_finite_leaves_nothing(data: ImageData, out: Path, at_batch: Install) -> None:
    at_batch(lambda count: BAD)
    with pytest.raises(TrainingError, match="loss is nan in epoch 1"):
        start(data, out)
    assert not out.exists()


def test_more_processes_than_cores(data: ImageData, out: Path) -> None:
    with pytest.raises(ConfigError, match="devices is 9999: that many processes do not fit on"):
        train("tiny", data, QUICK, out, accelerator="cpu", devices=9999, progress=False)
    assert not out.exists()


def test_what_was_in_the_directory_stays(data: ImageData, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="Lightning cannot train"):
        train("tiny", data, QUICK, out, accelerator="cpu", devices="0", progress=False)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_batches_too_small_for_their_statistics(data: ImageData, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(classes: int, channels: int, **_: object) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(channels), nn.Flatten(), nn.Linear(3, classes))

    monkeypatch.setattr("simroot.training.run.create_model", lambda name, *sizes, **overrides: small(*sizes))
    with pytest.raises(ConfigError, match=r"batch_size is 1: tiny normalises by the statistics of a batch"):
        start(data, out, batch_size=1)
    assert not out.exists()
    start(data, out, batch_size=2, epochs=1)


def test_a_network_in_evaluation_mode_is_trained_all_the_same(
    data: ImageData, out: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def build(name: str, *sizes: int, **overrides: int) -> nn.Module:
        model = tiny_network(*sizes, **overrides, norm=True)
        next(model.parameters()).requires_grad_(False)
        return model.eval()

    expected = train("tiny", data, QUICK, out, overrides={"norm": True}, progress=False)
    assert "evaluation mode" not in caplog.text
    monkeypatch.setattr("simroot.training.run.create_model", build)
    found = train("tiny", data, QUICK, out.with_name("other"), progress=False)
    assert "10 parts of the network were in evaluation mode" in caplog.text
    assert "not trained since frozen: 216 parameters of the network" in caplog.text
    for run in (expected, found):
        assert not torch.equal(run.model.state_dict()["1.running_mean"], torch.zeros(8))
