"""The run directory: what is in it, how it is read back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from simroot.data import ImageData
from simroot.data.crop import share
from simroot.errors import CheckpointError, ConfigError, DataError
from simroot.export.multi_label import THRESHOLD
from simroot.images.preparation import ImageSize, Preparation, sides
from simroot.models import create_model
from simroot.models.image_sizes import read_back, recorded
from simroot.models.own import Network, can_be_imported, given, is_own, require_scores
from simroot.models.registry import ModelEntry
from simroot.notebook import html_table
from simroot.training.checkpoint_file import fitting, read_checkpoint, weights_of
from simroot.training.config import read_whole
from simroot.training.environment import versions
from simroot.training.images import IMAGES, KEPT, read_known
from simroot.training.prediction import Images, probabilities
from simroot.training.recipes import Recipe
from simroot.training.writing import write_atomic, write_text
from simroot.untrusted.documents import read_json, require_regular, write_yaml
from simroot.untrusted.schema import require

CONFIG = "config.yaml"
METRICS = "metrics.csv"
SUMMARY = "summary.json"
LOG = "train.log"
LAST = "last.ckpt"
BEST = "best.ckpt"
WEIGHTS = "model.safetensors"
# Where the recipe has an average of the weights, WEIGHTS holds it, and this the weights themselves of the same epoch.
RAW = "raw.safetensors"
# The weights that a training started from, if it was given some.
INITIAL = "initial.safetensors"
# What a network that is trained in integers was calibrated to.
RANGES = "ranges.json"


_SHARES = ("accuracy", "balanced_accuracy", "mean_average_precision")


@dataclass(frozen=True)
class Run:
    """A trained network with what is needed to use it.

    Attributes:
        path: the run directory.
        model: the network in evaluation mode, on the CPU.
        model_name: its name in the registry.
        config: the contents of config.yaml.
        classes: class names in the order of the outputs.
        mean, std: per channel, in units of pixel / 255.
        preparation: how images become the network's input.
        summary: the contents of summary.json; empty until the training is complete.
    """

    path: Path
    model: nn.Module
    model_name: str
    config: Mapping[str, Any]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preparation: Preparation
    summary: Mapping[str, Any]

    @property
    def image_size(self) -> ImageSize:
        """Side of the images, or (height, width)."""
        return self.preparation.image_size

    @property
    def channels(self) -> int:
        """Number of the images' channels: 1 or 3."""
        return self.preparation.channels

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """Of the classes, where an image may have any number: the probability from which on it has one. Else None."""
        if not self.config["data"].get("multi_label"):
            return None
        return tuple(self.summary.get("thresholds") or [THRESHOLD] * len(self.classes))

    @property
    def recipe(self) -> Recipe:
        """How the network was trained."""
        return Recipe.from_dict(self.config["recipe"])

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments with which ``create_model`` builds the network."""
        return _arguments(self.config)

    def _repr_html_(self) -> str:
        """A table, as Jupyter shows it."""
        known: dict[str, Any] = {
            **self.summary,
            "images": self.config["data"].get("name"),
            "run directory": str(self.path),
        }
        shares: dict[str, Any] = {name: f"{known[name]:.2%}" for name in _SHARES if name in known}
        names = ("images", *_SHARES, "parameters", "macs", "flops", "epochs", "run directory")
        known.update(shares)
        rows = [(name.replace("_", " "), known[name]) for name in names if name in known]
        return html_table(self.model_name, rows)

    def predict(self, images: Images) -> NDArray[np.float64]:
        """Probabilities (N, classes): the softmax of the network's scores, or their sigmoids with ``thresholds``.

        Args:
            images: pictures, or a single one, prepared as for the run's evaluation: paths of image files, images of
                Pillow's, or uint8 arrays or tensors (H, W, C), (C, H, W) or (H, W). An array of more dimensions is
                several of them.

        Raises:
            DataError: for an image that cannot be read, an array of another type or shape, or anything else.
        """
        return probabilities(self, images)


def make_config(
    model_name: str,
    overrides: Mapping[str, Any],
    data: ImageData,
    data_source: Mapping[str, Any] | None,
    recipe: Recipe,
    versions: Mapping[str, Any],
    initial: Path | None = None,
    teacher: Mapping[str, Any] | None = None,
    integers: bool = False,
) -> dict[str, Any]:
    """The contents of config.yaml: enough to build the network and to run the training again."""
    model = {"name": model_name, "overrides": recorded(model_name, data.image_size, overrides)}
    return {
        "model": model if initial is None else {**model, "initial": str(initial.resolve())},
        "data": data_config(data, data_source),
        **({} if teacher is None else {"teacher": dict(teacher)}),
        **({"integers": True} if integers else {}),
        "recipe": recipe.to_dict(),
        "versions": dict(versions),
    }


def data_config(data: ImageData, source: Mapping[str, Any] | None) -> dict[str, Any]:
    """What config.yaml says about images: ``source``, the arguments that load them, and what they are."""
    return {
        "name": data.name,
        "source": None if source is None else {k: _plain(v) for k, v in source.items()},
        "classes": list(data.classes),
        **data.preparation.to_dict(),
        "mean": list(data.mean),
        "std": list(data.std),
        "train": len(data.train),
        "val": len(data.val),
        "skipped": len(data.skipped),
        **({"multi_label": True} if data.multi_label else {}),
    }


def origin(data: ImageData, source: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the config.yaml of a pre-trained network says about where it comes from: data and versions."""
    return {"data": data_config(data, source), "versions": versions()}


def _plain(value: Any) -> Any:
    return str(value.resolve()) if isinstance(value, Path) else value


def build_model(config: Mapping[str, Any], own: ModelEntry | None = None) -> nn.Module:
    """The untrained network of a config, or of an entry in its place: a name out of a file imports nothing.

    Raises:
        ConfigError: as ``create_model``, and if a network that is not simroot's gives no score for each class.
    """
    name, arguments = config["model"]["name"], _arguments(config)
    classes, channels = arguments.pop("num_classes"), arguments.pop("in_channels")
    network = create_model(own or name, classes, channels, **arguments)
    if own is not None or is_own(name):
        require_scores(network, name, (channels, *sides(arguments["image_size"])), classes)
    return network


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of ``create_model`` for the network of a config."""
    model, data = config["model"], config["data"]
    sizes = {"num_classes": len(data["classes"]), "in_channels": data["channels"], "image_size": data["image_size"]}
    return {**sizes, **read_back(model["name"], model["overrides"])}


def require_free(path: Path) -> None:
    """Make sure that a directory holds no run; raises ConfigError if it does."""
    if found := [name for name in (CONFIG, LAST, BEST, WEIGHTS) if (path / name).exists()]:
        raise ConfigError(
            f"{path} holds a run already ({found[0]}); continue it with --resume {shlex.quote(str(path))} or choose "
            "another --out"
        )


def create_run(path: Path, config: Mapping[str, Any]) -> None:
    """Write the config.yaml of a run into its directory.

    Raises:
        ConfigError: if the config is not of plain values.
    """
    try:
        text = write_yaml(dict(config))
    except yaml.YAMLError as error:
        raise ConfigError(
            f"overrides and data_source must be plain values that {CONFIG} can hold: {' '.join(map(str, error.args))}"
        ) from error
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / CONFIG, text, advice="make room, mend the folder or choose another --out")


def record_source(path: Path, config: Mapping[str, Any], source: Mapping[str, Any]) -> None:
    """Write into config.yaml where the data lies now."""
    data = {**config["data"], "source": {key: _plain(value) for key, value in source.items()}}
    create_run(path, {**config, "data": data})


def discard_run(path: Path) -> None:
    """Take back what ``create_run`` made if no epoch was completed, so that the directory can be used again."""
    if not any((path / name).exists() for name in (LAST, BEST, WEIGHTS)):
        for name in (CONFIG, INITIAL, RANGES, IMAGES, KEPT, LOG):
            (path / name).unlink(missing_ok=True)


def read_config(path: Path) -> dict[str, Any]:
    """Read and check a run's config.yaml.

    Raises:
        CheckpointError: if the directory holds no run, or its config.yaml is damaged or of a newer version.
    """
    file = path / CONFIG
    if not file.is_file():
        raise CheckpointError(f"{path} holds no run: {CONFIG} is missing; expected a directory made by simroot train")
    return read_whole(file)


def data_arguments(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of ``simroot.data.load`` that give a run's images, prepared as they were; None if none do."""
    data = config["data"]
    if data.get("source") is None:
        return None
    prepared = Preparation.from_dict(data).to_dict()
    del prepared["channels"]  # what the images themselves say
    return {**data["source"], **prepared}


def check_same_data(config: Mapping[str, Any], data: ImageData, path: Path) -> None:
    """Make sure that images are those that a run was started with, wherever they lie.

    Raises:
        CheckpointError: if what the run knows of its images is damaged.
        DataError: if classes, labels, pixels, size, channels or numbers of the images are others.
    """
    if change := data_change(config, data, path):
        raise DataError(f"the data has changed since {path} was started: {change}; restore the data or train anew")


def data_change(config: Mapping[str, Any], data: ImageData, path: Path) -> str | None:
    """What of images is other than in a run's training, for people; None if they are the same."""
    now, known = data_config(data, None), read_known(path)
    names = ("classes", *data.preparation.to_dict(), "train", "val")
    changes = [name for name in (*names, "mean", "std") if config["data"][name] != now[name]]
    if known and not set(changes) & set(names) and (change := known.changes(data)):
        return change  # says more than the means
    return f"{changes[0]} is {now[changes[0]]}, expected {config['data'][changes[0]]}" if changes else None


def resume_command(path: Path, model: str) -> str:
    """What to type to go on with a run of a network; in Python for one that no word names."""
    if is_own(model) and can_be_imported(model):
        return f"{resume_command(path, '')} --trust {model}"
    if ":<" in model or model.endswith("()") or is_own(model):
        return f"simroot.training.resume({str(path)!r}, model=...)"
    return f"simroot train --resume {shlex.quote(str(path))}"


def save_weights(path: Path, model: nn.Module) -> None:
    """Write a network's parameters and buffers as safetensors; raises TrainingError if that fails."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # The writer refuses tensors that share memory, as tied parameters do.
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    write_atomic(path, lambda file: file.write(safetensors.torch.save(tensors)))


def read_weights(path: Path, *, raw: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or the network's of a checkpoint: their average if there is one, unless raw.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    if path.suffix != ".safetensors":
        return weights_of(read_checkpoint(path), raw=raw)
    try:
        require_regular(path)
        return dict(safetensors.torch.load_file(path))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: the run has not completed an epoch yet") from error
    except (safetensors.SafetensorError, ConfigError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or truncated: {error}") from error


def load_weights(path: Path, model: nn.Module, *, raw: bool = False) -> None:
    """Fill a network with the weights of a safetensors file or a checkpoint; see ``read_weights``.

    Raises:
        CheckpointError: if the file is missing or damaged, or does not fit the network.
    """
    tensors = read_weights(path, raw=raw)
    model.load_state_dict(fitting(tensors, model.state_dict(), f"{path} does not fit the network of {CONFIG}"))


def load_run(path: str | Path, weights: str = "best", *, model: Network | None = None) -> Run:
    """Read a run back.

    A run of a network that is not simroot's says where its builder is, such as ``package.module:builder``. That is
    code, and it is imported only if you say so with ``model``.

    Args:
        path: a run directory.
        weights: ``"best"``, the epoch that is the best on the validation images by the recipe's ``metric``, or
            ``"last"``; their average where the recipe has ``ema``.
        model: the network that the run was trained with, where it is not simroot's: its name, its builder or an
            nn.Module, of which a copy is filled.

    Raises:
        CheckpointError: if the directory holds no run, or a file is missing or damaged or does not fit.
        ConfigError: for other weights, or a network that is not simroot's without ``model``.
    """
    path = Path(path)
    if weights not in ("best", "last"):
        raise ConfigError(f"weights is {weights!r}; expected 'best' or 'last'")
    config = read_config(path)
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn for nothing
        network = build_model(config, given(model))
    load_weights(path / (WEIGHTS if weights == "best" else LAST), network)
    data = config["data"]
    return Run(
        path=path,
        model=network.eval(),
        model_name=config["model"]["name"],
        config=config,
        classes=tuple(data["classes"]),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        preparation=Preparation.from_dict(data, share(config["recipe"].get("crop", "whole"))),
        summary=_read_summary(path / SUMMARY),
    )


def _read_summary(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        summary = read_json(path)
        require(summary, dict, "")
        require(summary.get("thresholds"), list[float] | None, "thresholds")
    except ConfigError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return dict(summary)
