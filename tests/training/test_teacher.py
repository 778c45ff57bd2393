"""Teachers: their scores, the loss that imitates them, and what is said where they cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from simroot.data import ImageData, normalise
from simroot.errors import ConfigError
from simroot.export import to_onnx
from simroot.images.preparation import Preparation
from simroot.models.registry import create_model
from simroot.training import Run, TrainingInterrupted, resume, train
from simroot.training.module import ClassificationModule
from simroot.training.teacher import distillation, open_teacher, teacher_config
from training.conftest import Install
from training.support import QUICK, small_data, tiny_network
from training.test_averaging import LONG
from training.test_train import assert_same, rows, weights

OPTIONS: Any = {"accelerator": "cpu", "progress": False}


@pytest.fixture
def run(data: ImageData, tmp_path: Path) -> Run:
    return train("tiny", data, replace(QUICK, epochs=1), tmp_path / "teacher", overrides={"width": 12}, **OPTIONS)


def place(path: str | Path, file: Path | None = None) -> dict[str, str | None]:
    found = teacher_config(path, file)
    assert found is not None
    return found


def batch(data: ImageData) -> torch.Tensor:
    return normalise(data.val.read(torch.arange(5)), data.mean, data.std)


def reference(scores: np.ndarray, teacher: np.ndarray, temperature: float, standardise: bool) -> float:
    """The mean of T^2 KL(p_teacher || p_student) in double precision."""
    logs = []
    for z in (scores.astype(np.float64), teacher.astype(np.float64)):
        if standardise:
            z = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5)
        z = z / temperature
        logs.append(z - np.log(np.exp(z).sum(1, keepdims=True)))
    student, known = logs
    return float(temperature**2 * (np.exp(known) * (known - student)).sum(1).mean())


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("standardise", [True, False])
def test_the_loss_is_the_formula(temperature: float, standardise: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    scores, teacher = (scale * torch.randn(6, 7, generator=generator) + 3 for scale in (1.0, 5.0))
    found = distillation(scores, teacher, temperature, standardise=standardise)
    assert float(found) == pytest.approx(reference(scores.numpy(), teacher.numpy(), temperature, standardise), rel=1e-4)
    assert float(distillation(teacher, teacher, temperature, standardise=standardise)) == pytest.approx(0, abs=1e-6)


def decoupled_reference(scores: Any, teacher: Any, labels: Any, temperature: float, beta: float) -> float:
    """Class by class, in float64."""
    total = 0.0
    for own, theirs, label in zip(scores.astype(float), teacher.astype(float), labels, strict=True):
        p, q = (np.exp(row / temperature) / np.exp(row / temperature).sum() for row in (theirs, own))
        target = p[label] * np.log(p[label] / q[label]) + (1 - p[label]) * np.log((1 - p[label]) / (1 - q[label]))
        others = [c for c in range(len(p)) if c != label]
        given = [(p[c] / (1 - p[label]), q[c] / (1 - q[label])) for c in others]
        total += target + beta * sum(a * np.log(a / b) for a, b in given)
    return temperature**2 * total / len(scores)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_decoupled_loss_is_the_formula(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    scores, teacher = (scale * torch.randn(6, 5, generator=generator) for scale in (1.0, 3.0))
    labels = torch.tensor([0, 4, 2, 1, 3, 3])
    found = distillation(scores, teacher, temperature, standardise=False, labels=labels)
    expected = decoupled_reference(scores.numpy(), teacher.numpy(), labels.numpy(), temperature, 2.0)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(distillation(teacher, teacher, temperature, standardise=True, labels=labels)) == pytest.approx(
        0, abs=1e-6
    )


def test_decoupled_loss_tells_others_apart_where_the_teacher_is_sure() -> None:
    """It stays finite, with gradients for the classes that the teacher all but rules out; the plain one has none."""
    teacher = torch.tensor([[40.0, 3.0, 0.0, -3.0]])
    gradients = []
    for labels in (None, torch.tensor([0])):
        scores = torch.tensor([[40.0, 0.0, 0.0, 0.0]], requires_grad=True)
        distillation(scores, teacher, 1.0, standardise=False, labels=labels).backward()
        assert scores.grad is not None
        assert scores.grad.isfinite().all()
        gradients.append(float(scores.grad[0, 1:].abs().max()))
    assert gradients[0] < 1e-6
    assert gradients[1] > 0.1


def test_with_two_classes_there_is_no_other_to_tell_apart() -> None:
    scores, teacher, labels = torch.randn(4, 2), torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
    plain = distillation(scores, teacher, 2.0, standardise=False)
    assert float(distillation(scores, teacher, 2.0, standardise=False, labels=labels)) == pytest.approx(float(plain))


def test_standardised_scores_may_be_shifted_and_scaled() -> None:
    scores, teacher = torch.randn(4, 5), torch.randn(4, 5)
    found = distillation(3 * scores + 1, 10 * teacher - 7, 2.0, standardise=True)
    assert float(found) == pytest.approx(float(distillation(scores, teacher, 2.0, standardise=True)), rel=1e-3)


def test_constant_scores_have_a_loss_and_gradients() -> None:
    scores = torch.full((2, 4), 3.0, requires_grad=True)
    loss = distillation(scores, torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 5.0]]), 2.0, standardise=True)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert float(scores.grad[0].abs().sum()) > 0
    assert float(scores.grad[1].abs().sum()) == 0


def test_a_step_shares_the_loss_between_labels_and_teacher(run: Run, data: ImageData) -> None:
    torch.manual_seed(0)
    model = tiny_network(3, 3, image_size=8)
    recipe = replace(QUICK, distil=0.7, temperature=3.0, label_smoothing=0.1)
    module = ClassificationModule(model, data, recipe, teacher=open_teacher(place(run.path), data))
    images, labels = batch(data), data.val.labels[:5]
    with torch.no_grad():
        scores, known = model(images), run.model(images)
    labelled = nn.functional.cross_entropy(scores, labels, label_smoothing=0.1)
    expected = 0.3 * float(labelled) + 0.7 * reference(scores.numpy(), known.numpy(), 3.0, True)
    assert float(module.training_step((images, labels), 0).detach()) == pytest.approx(expected, rel=1e-4)
    assert not any("teacher" in name for name in module.state_dict())
    module.recipe = replace(recipe, distillation="dkd", standardise=False)
    imitation = decoupled_reference(scores.numpy(), known.numpy(), labels.numpy(), 3.0, 2.0)
    expected = 0.3 * float(labelled) + 0.7 * imitation
    assert float(module.training_step((images, labels), 0).detach()) == pytest.approx(expected, rel=1e-4)


def test_a_run_gives_the_scores_of_the_classes_by_name(run: Run, data: ImageData) -> None:
    other = replace(data, classes=("cat", "ant"))
    found = open_teacher(place(run.path), other).scores(batch(data))
    with torch.no_grad():
        torch.testing.assert_close(found, run.model(batch(data))[:, [2, 0]], rtol=1e-4, atol=1e-5)


def test_a_run_sees_images_of_its_own_size_and_normalisation(run: Run, data: ImageData) -> None:
    """Of 16 x 16 pixels, twice the teacher's: each of its pixels is about the mean of four."""
    small = data.val.read(torch.arange(5))
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    preparation = Preparation(3, 16)
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    teacher = open_teacher(place(run.path), replace(data, preparation=preparation, mean=mean, std=std))
    seen = []
    teacher.scorer = lambda pixels: seen.append(pixels) or torch.zeros(5, 3)  # type: ignore[func-returns-value]
    teacher.scores(normalise(large, mean, std))
    assert seen[0].shape == (5, 3, 8, 8)
    expected = nn.functional.interpolate(large / 255, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(seen[0], expected, rtol=0, atol=1e-5)
    assert teacher.seconds > 0


def test_weights_that_come_with_simroot_teach_by_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = create_model("simnet_5k_cifar10", pretrained=True)
    data = replace(small_data(size=32), classes=("ship", "cat"))
    config = place("simnet_5k_cifar10")
    assert config["source"] == "simnet_5k_cifar10"
    images = batch(data)
    pixels = images * torch.tensor(data.std).view(-1, 1, 1) + torch.tensor(data.mean).view(-1, 1, 1)
    with torch.no_grad():
        scores = network(
            normalise((255 * pixels).round().byte(), *(network.pretrained[key] for key in ("mean", "std")))
        )
    found = open_teacher(config, data).scores(images)
    columns = [network.pretrained["classes"].index(name) for name in ("ship", "cat")]
    torch.testing.assert_close(found, scores[:, columns], rtol=1e-4, atol=1e-4)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "simnet_5k_cifar10").mkdir()  # a run of that name goes first
    assert place("simnet_5k_cifar10")["source"] == str(tmp_path / "simnet_5k_cifar10")


@pytest.mark.slow
def test_a_file_knows_its_classes_and_normalises_by_itself(run: Run, data: ImageData, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    facts: Any = {"classes": ("cat", "bee", "ant"), "mean": run.mean, "std": run.std}
    to_onnx(run.model, tmp_path / "a.onnx", (3, 8, 8), **facts)
    found = open_teacher(place(tmp_path / "a.onnx"), data).scores(batch(data))
    with torch.no_grad():
        torch.testing.assert_close(found, run.model(batch(data))[:, [2, 1, 0]], rtol=1e-3, atol=1e-4)
    to_onnx(run.model, tmp_path / "b.onnx", (3, 8, 8), classes=facts["classes"])
    with pytest.raises(ConfigError, match=r"b.onnx cannot be used: it holds no preprocessing; export it with mean"):
        open_teacher(place(tmp_path / "b.onnx"), data)


def test_a_library_has_its_own_size_and_mean(data: ImageData, tmp_path: Path) -> None:
    name = "torchvision:squeezenet1_1"
    with torch.random.fork_rng(devices=[]):
        network = create_model(name, 3)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    teacher = open_teacher(place(name, tmp_path / "w.safetensors"), data)
    assert (teacher.name, teacher.shape) == (name, (3, 224, 224))
    pixels = data.val.read(torch.arange(2)) / 255
    large = nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = network.eval()((large - mean) / std)
    torch.testing.assert_close(teacher.scores(batch(data)[:2]), expected, rtol=1e-3, atol=1e-4)
    save_file({name: t for name, t in network.state_dict().items() if t.ndim > 1}, tmp_path / "few.safetensors")
    for file, message in (
        (None, "it has no weights here; add --teacher-weights FILE.safetensors, trained on 'ant', 'bee', 'cat'"),
        (tmp_path / "none.safetensors", "none.safetensors does not exist"),
        (tmp_path / "few.safetensors", "does not fit it with these 3 classes, 'ant', 'bee', 'cat': .* is missing"),
    ):
        with pytest.raises(ConfigError, match=f"the teacher {name} cannot be used: .*{message}"):
            open_teacher(place(name, file), data)
    four = replace(data, classes=("ant", "bee", "cat", "dog"))
    with pytest.raises(ConfigError, match=r"these 4 classes, .*'dog': classifier\.1\.\w+ is \(3,.*expected \(4,"):
        open_teacher(place(name, tmp_path / "w.safetensors"), four)


def test_what_cannot_teach(run: Run, data: ImageData, tmp_path: Path) -> None:
    dogs = replace(data, classes=("ant", "dog", "eel"))
    with pytest.raises(ConfigError, match="it does not know 'dog', 'eel'; its classes are 'ant', 'bee', 'cat'"):
        open_teacher(place(run.path), dogs)
    with pytest.raises(ConfigError, match=r"teacher .* cannot be used: .*holds no run"):
        open_teacher(place(tmp_path), data)
    with pytest.raises(ConfigError, match="has weights of its own"):
        open_teacher(place(run.path, tmp_path / "w.safetensors"), data)
    with pytest.raises(ConfigError, match="without a teacher"):
        teacher_config(None, "w.safetensors")
    grey = small_data(channels=1)
    learner = train("tiny", grey, replace(QUICK, epochs=1), tmp_path / "grey", **OPTIONS)
    with pytest.raises(ConfigError, match="takes grey images; these have 3 channels"):
        open_teacher(place(learner.path), data)
    images = normalise(grey.val.read(torch.arange(2)), grey.mean, grey.std)
    assert open_teacher(place(run.path), grey).scores(images).shape == (2, 3)


def test_a_training_with_all_of_it_is_resumed_to_the_bit(
    run: Run, data: ImageData, out: Path, tmp_path: Path, at_batch: Install
) -> None:
    """An average, mixtures, epochs that settle and a teacher; the cost of the teacher is told."""
    options: Any = {"overrides": {"norm": True, "noise": 0.1}, "teacher": run.path, **OPTIONS}
    whole = train("tiny", data, LONG, tmp_path / "whole", **options).path

    def stop(count: int) -> float:
        if count == 5:
            raise KeyboardInterrupt
        return 1.0

    at_batch(stop)
    with pytest.raises(TrainingInterrupted):
        train("tiny", data, LONG, out, **options)
    at_batch(lambda count: 1.0)
    resume(out, data=data, **OPTIONS)
    for which in ("last", "best"):
        assert_same(weights(out, which), weights(whole, which))
    kept = [[{**row, "seconds": 0.0, "teacher_seconds": 0.0} for row in rows(path)] for path in (out, whole)]
    assert kept[0] == kept[1]
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["teacher"] == {"source": str(run.path.resolve()), "weights": None}
    summary = json.loads((out / "summary.json").read_text())
    assert summary["teacher"].items() >= config["teacher"].items()
    spent = [row["teacher_seconds"] for row in rows(out)]
    assert all(0 < row["teacher_seconds"] < row["seconds"] for row in rows(out))
    assert summary["teacher"]["seconds"] == pytest.approx(sum(spent), rel=1e-4)
    log = (out / "train.log").read_text()
    assert f"90% of the loss imitates {run.path.resolve()}, which sees images of 3 x 8 x 8" in log
    assert "s of them the teacher's" in log
    for name in ("summary.json", "metrics.csv"):
        (out / name).unlink()
    (run.path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"the teacher .* cannot be used: .*model.safetensors does not exist"):
        resume(out, data=data, **OPTIONS)


def test_a_teacher_that_is_missing_leaves_nothing(data: ImageData, out: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher .* cannot be used"):
        train("tiny", data, QUICK, out, teacher=tmp_path / "none", **OPTIONS)
    assert not out.exists()
