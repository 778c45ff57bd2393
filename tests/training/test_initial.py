"""Training from weights that are given."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from simroot.data import ImageData, from_arrays
from simroot.errors import CheckpointError
from simroot.training import TrainingInterrupted, load_run, recipe, resume, train
from simroot.training.initial import Start, origin_of, read_start, start_from
from simroot.training.run import build_model
from training.conftest import Install
from training.support import CLASSES, QUICK, small_data, tiny_network
from training.test_train import assert_same, weights

FEW = recipe(**{**QUICK.to_dict(), "epochs": 1, "learning_rate": 1e-9})


def given(path: Path, width: int = 8) -> Path:
    torch.manual_seed(5)
    save_file(tiny_network(3, 3, image_size=8, width=width).state_dict(), path)
    return path


def test_starts_from_them_and_keeps_a_copy(data: ImageData, out: Path, tmp_path: Path) -> None:
    initial = given(tmp_path / "start.safetensors")
    chosen = recipe(**{**QUICK.to_dict(), "epochs": 1, "learning_rate": 1e-9})
    train("tiny", data, chosen, out, initial=initial, accelerator="cpu", progress=False)
    expected, trained = load_file(initial), load_run(out).model.state_dict()
    assert all(torch.allclose(trained[name], expected[name], atol=1e-6) for name in expected)
    copied = load_file(out / "initial.safetensors")
    assert all(torch.equal(copied[name], expected[name]) for name in expected)
    assert yaml.safe_load((out / "config.yaml").read_text())["model"]["initial"] == str(initial.resolve())


def test_without_them_nothing_is_recorded(data: ImageData, out: Path) -> None:
    train("tiny", data, recipe(**{**QUICK.to_dict(), "epochs": 1}), out, accelerator="cpu", progress=False)
    assert "initial" not in yaml.safe_load((out / "config.yaml").read_text())["model"]
    assert not (out / "initial.safetensors").exists()


def test_weights_that_cannot_be_used(data: ImageData, out: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist; expected the weights to start from"):
        train("tiny", data, QUICK, out, initial=tmp_path / "none.safetensors", progress=False)
    with pytest.raises(CheckpointError, match="does not fit the network"):
        train("tiny", data, QUICK, out, initial=given(tmp_path / "wide.safetensors", 9), progress=False)
    assert not out.exists()


def config(classes: tuple[str, ...], width: int = 8) -> dict[str, Any]:
    model = {"name": "tiny", "overrides": {"width": width}}
    return {"model": model, "data": {"classes": list(classes), "channels": 3, "image_size": 8}}


def with_classes(*classes: str) -> ImageData:
    data = small_data()
    images = torch.cat([data.train.read(torch.arange(40)), data.val.read(torch.arange(20))])
    return from_arrays(images, torch.arange(60) % len(classes), classes=classes, validation=20)


def test_other_classes_take_their_rows_by_name(data: ImageData, out: Path, tmp_path: Path) -> None:
    """The body is the run's, the rows of classes that both have too, and those of a new class are drawn."""
    run = train("tiny", data, FEW, tmp_path / "first", accelerator="cpu", progress=False)
    new = with_classes("bee", "dog", "ant", "eel")
    tuned = train("tiny", new, FEW, out, initial=run.path, accelerator="cpu", progress=False).model.state_dict()
    before, copied = run.model.state_dict(), load_file(out / "initial.safetensors")
    for name in ("0.weight", "0.bias", "4.weight", "4.bias"):
        torch.testing.assert_close(tuned[name], before[name], rtol=0, atol=1e-6)
    for name in ("8.weight", "8.bias"):
        assert torch.equal(copied[name][[0, 2]], before[name][[1, 0]])  # bee and ant
        assert not torch.equal(copied[name][1], before[name][2])
    log = (out / "train.log").read_text()
    assert f"initial weights from {run.path}: 6 of 6 tensors fit" in log
    assert "2 classes keep their rows: bee, ant" in log


def test_the_same_classes_in_another_order_keep_their_names() -> None:
    """A hidden layer of as many channels as there are classes stays as it is."""
    torch.manual_seed(0)
    given, model = (build_model(config(CLASSES, width=3)) for _ in range(2))
    start = Start(Path("x"), given.state_dict(), CLASSES)
    lines = start_from(model, config(("cat", "ant", "bee"), width=3), start)
    found, expected = model.state_dict(), given.state_dict()
    assert torch.equal(found["8.weight"], expected["8.weight"][[2, 0, 1]])
    assert torch.equal(found["0.weight"], expected["0.weight"])
    assert lines == (
        "initial weights from x: 6 of 6 tensors fit",
        "3 classes keep their rows: cat, ant, bee",
    )


def test_what_does_not_fit_starts_anew_and_is_named(tmp_path: Path) -> None:
    """A file says nothing of its classes: another number of them starts anew."""
    initial = given(tmp_path / "start.safetensors")
    model = build_model(config(("a", "b", "c", "d")))
    drawn = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start = read_start(initial)
    assert start.classes is None
    (line,) = start_from(model, config(("a", "b", "c", "d")), start)
    assert line == f"initial weights from {initial}: 4 of 6 tensors fit; 2 tensors start anew: 8.weight, 8.bias"
    found = model.state_dict()
    assert torch.equal(found["8.weight"], drawn["8.weight"])
    assert torch.equal(found["4.weight"], start.tensors["4.weight"])


def test_a_file_of_a_run_knows_the_classes(data: ImageData, out: Path) -> None:
    train("tiny", data, FEW, out, overrides={"width": 4}, accelerator="cpu", progress=False)
    assert origin_of(out) == ("tiny", {"width": 4}, data.image_size)
    assert read_start(out / "last.ckpt").classes == read_start(out).classes == CLASSES
    assert origin_of(out / "last.ckpt") is None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "does not fit the network: no layer's weights"),
        ({"8.bias": torch.zeros(3)}, "does not fit the network: no layer's weights"),
        ({"0.weight": torch.full((8, 3, 3, 3), torch.inf)}, r"is no start: 0\.weight is not finite"),
        ({"0.weight": torch.zeros(8, 3, 3, 3, dtype=torch.float16)}, "does not fit the network"),
    ],
)
def test_starts_of_no_use(tensors: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        start_from(build_model(config(CLASSES)), config(CLASSES), Start(Path("x"), tensors))


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no run: config\.yaml is missing"):
        read_start(tmp_path)


def test_resumption_needs_the_start_no_more(data: ImageData, out: Path, tmp_path: Path, at_batch: Install) -> None:
    """The run's own copy is used, whatever has become of the first run."""
    first = train("tiny", data, FEW, tmp_path / "first", accelerator="cpu", progress=False).path
    new = with_classes("bee", "dog", "ant", "eel")
    options: Any = {"accelerator": "cpu", "progress": False}
    whole = train("tiny", new, QUICK, tmp_path / "whole", initial=first, **options)

    def stop(count: int) -> float:
        if count == 2:
            raise KeyboardInterrupt
        return 1.0

    at_batch(stop)
    with pytest.raises(TrainingInterrupted):
        train("tiny", new, QUICK, out, initial=first, **options)
    at_batch(lambda count: 1.0)
    (first / "model.safetensors").unlink()
    resume(out, data=new, **options)
    assert_same(weights(out, "last"), weights(whole.path, "last"))
