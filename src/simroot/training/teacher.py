"""A trained network whose scores a training imitates.

The teacher sees what the student sees, the same augmented images, brought to its own size and normalised by its own
mean and deviation. The loss, at temperature T and with scores z of mean 0 and deviation 1 over the classes (Sun et al.
2024), is

    T^2 KL(softmax(z_teacher / T) || softmax(z_student / T)).

Decoupled (Zhao et al., CVPR 2022) it has two parts, each a KL of its own: whether it is the label's class, and which of
the others, given that it is another,

    T^2 (KL(b_teacher || b_student) + beta KL(q_teacher || q_student)).

The plain loss has the teacher's 1 - p(label) in the place of beta: it hardly tells the others apart where the teacher
is sure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from simroot.data import ImageData
from simroot.errors import CheckpointError, ConfigError, SimrootError, listed, quoted
from simroot.export import Predictor
from simroot.images.preparation import as_image_size, sides
from simroot.layers import accelerate
from simroot.models import create_model, model_entry
from simroot.models.pretrained import is_pretrained, list_pretrained, weights_of
from simroot.models.registry import of_library
from simroot.training.checkpoint_file import fitting
from simroot.training.run import load_run, read_weights

# What torchvision's weights, and most of timm's, were trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NAMED = 5  # classes that a message names
_BETA = 2.0  # weight of the other classes in the decoupled loss

# From images in units of pixel / 255 to scores.
Scorer = Callable[[Tensor], Tensor]


class Teacher:
    """Gives the scores that a student imitates.

    Args:
        name: what people call it.
        scorer: images (N, C, H, W) in units of pixel / 255 -> scores (N, its classes).
        shape: (C, H, W) of its images.
        columns: where its scores of the data's classes are.
        data: what the student learns.

    Attributes:
        seconds: spent in ``scores``; on a GPU, until the work is queued.
    """

    def __init__(
        self, name: str, scorer: Scorer, shape: tuple[int, int, int], columns: Sequence[int], data: ImageData
    ) -> None:
        if shape[0] != data.channels and data.channels != 1:
            raise ConfigError(f"the teacher {name} takes grey images; these have {data.channels} channels")
        self.name, self.scorer, self.shape, self.columns = name, scorer, shape, list(columns)
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (data.mean, data.std))
        self.seconds = 0.0

    @torch.no_grad()
    def scores(self, images: Tensor) -> Tensor:
        """Of the data's classes, float32 (N, classes), for a student's normalised batch (N, C, H, W)."""
        started = time.perf_counter()
        pixels = images * self.std.to(images.device) + self.mean.to(images.device)
        if pixels.shape[2:] != self.shape[1:]:
            pixels = functional.interpolate(pixels, self.shape[1:], mode="bilinear", antialias=True)
        scores = self.scorer(pixels.expand(-1, self.shape[0], -1, -1)).float()[:, self.columns]
        self.seconds += time.perf_counter() - started
        return scores


def teacher_config(source: str | Path | None, weights: str | Path | None) -> dict[str, str | None] | None:
    """What config.yaml says of a teacher: where it is; None if there is none.

    Raises:
        ConfigError: for weights of no teacher.
    """
    if source is None:
        if weights is not None:
            raise ConfigError(
                f"teacher_weights is {weights} without a teacher; name one: torchvision:NAME or timm:NAME"
            )
        return None
    place = str(source) if of_library(str(source)) or is_pretrained(source) else str(Path(source).resolve())
    return {"source": place, "weights": None if weights is None else str(Path(weights).resolve())}


def open_teacher(config: Mapping[str, Any], data: ImageData) -> Teacher:
    """The teacher of a config.yaml: a run, weights that come with simroot, an ``.onnx`` file of ours, or a network of
    another library with weights.

    Raises:
        ConfigError: if it is missing, damaged, or does not know the classes.
    """
    source, weights = config["source"], config.get("weights")
    try:
        if of_library(source):
            return _of_library(source, weights, data)
        if weights is not None:
            raise ConfigError(
                f"has weights of its own; received {weights}, which go with torchvision:NAME or timm:NAME"
            )
        if source in list_pretrained():
            return _of_shipped(source, data)
        return _of_file(Path(source), data) if source.endswith(".onnx") else _of_run(Path(source), data)
    except SimrootError as error:
        raise ConfigError(f"the teacher {source} cannot be used: {error}") from error


def distillation(
    scores: Tensor, teacher: Tensor, temperature: float, *, standardise: bool, labels: Tensor | None = None
) -> Tensor:
    """The loss of scores (N, classes) that imitate a teacher's, averaged; see the module.

    Args:
        scores: the student's.
        teacher: its scores.
        temperature: T.
        standardise: over the classes, with 1e-5 added to the variance; False takes scores as they are.
        labels: int64 (N,), for the decoupled loss; None for the plain one.
    """
    pair = (scores.float(), teacher.float())
    if standardise:
        pair = (functional.layer_norm(pair[0], pair[0].shape[1:]), functional.layer_norm(pair[1], pair[1].shape[1:]))
    student, other = ((each / temperature).log_softmax(1) for each in pair)
    if labels is None:
        return temperature**2 * _divergence(student, other)
    known = [_decoupled(logs, labels) for logs in (student, other)]
    parts = [_divergence(own, theirs) for own, theirs in zip(*known, strict=True)]
    return temperature**2 * (parts[0] + _BETA * parts[1])


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """``KL(teacher || student)`` of log probabilities (N, classes), averaged."""
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True)


def _decoupled(logs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of the label's class and of all others, (N, 2), and of each other one, (N, classes - 1)."""
    label = functional.one_hot(labels, logs.shape[1]).bool()
    others = logs[~label].view(len(logs), -1)
    return torch.stack((logs[label], others.logsumexp(1)), 1), others.log_softmax(1)


def _of_run(path: Path, data: ImageData) -> Teacher:
    run = load_run(path)
    scorer = _scorer(run.model, run.mean, run.std)
    return Teacher(str(path), scorer, run.preparation.shape, _columns(run.classes, data), data)


def _of_shipped(name: str, data: ImageData) -> Teacher:
    known = weights_of(name).described
    network = create_model(name, len(known["classes"]), known["channels"], pretrained=True)
    height, width = sides(as_image_size(known["image_size"]))
    scorer = _scorer(network, known["mean"], known["std"])
    return Teacher(name, scorer, (known["channels"], height, width), _columns(known["classes"], data), data)


def _of_file(path: Path, data: ImageData) -> Teacher:
    predictor = Predictor(path)
    if not predictor.description.takes_pixels:
        raise ConfigError("it holds no preprocessing; export it with mean and std")

    def scorer(pixels: Tensor) -> Tensor:
        shades = (255 * pixels).round().clamp(0, 255).byte().cpu().numpy()
        return torch.from_numpy(np.asarray(predictor.scores(shades))).to(pixels.device)

    return Teacher(str(path), scorer, predictor.preparation.shape, _columns(predictor.classes, data), data)


def _of_library(name: str, weights: str | None, data: ImageData) -> Teacher:
    if weights is None:
        raise ConfigError(
            f"it has no weights here; add --teacher-weights FILE.safetensors, trained on {_few(data.classes)}"
        )
    with torch.random.fork_rng(devices=[]):  # the weights are drawn for nothing
        network = create_model(name, len(data.classes))
    if not Path(weights).is_file():
        raise CheckpointError(f"{weights} does not exist")
    failure = f"{weights} does not fit it with these {len(data.classes)} classes, {_few(data.classes)}"
    network.load_state_dict(fitting(read_weights(Path(weights)), network.state_dict(), failure))
    asked: Any = getattr(network, "pretrained_cfg", {})  # timm's
    height, width = sides(model_entry(name).image_size)
    shape = tuple(asked.get("input_size", (3, height, width)))
    scorer = _scorer(network, asked.get("mean", _MEAN), asked.get("std", _STD))
    return Teacher(name, scorer, (shape[0], shape[1], shape[2]), range(len(data.classes)), data)


def _scorer(network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> Scorer:
    """A network, accelerated, with its normalisation; it goes where the images are."""
    accelerate(network.eval().requires_grad_(False)).to(memory_format=torch.channels_last)
    means, deviations = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))

    def scorer(pixels: Tensor) -> Tensor:
        device = pixels.device
        scores: Tensor = network.to(device)((pixels - means.to(device)) / deviations.to(device))
        return scores

    return scorer


def _columns(classes: Sequence[str], data: ImageData) -> list[int]:
    if missing := [name for name in data.classes if name not in classes]:
        raise ConfigError(f"it does not know {_few(missing)}; its classes are {_few(classes)}")
    return [classes.index(name) for name in data.classes]


def _few(names: Sequence[str]) -> str:
    return listed([quoted(name) for name in names], _NAMED)
