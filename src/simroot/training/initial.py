"""Where a training starts: the weights of another network, as far as they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from simroot.errors import CheckpointError, counted, listed, quoted
from simroot.images.preparation import ImageSize, as_image_size
from simroot.models.image_sizes import read_back
from simroot.models.own import Network, given
from simroot.models.pretrained import Described, is_pretrained, list_pretrained, weights_of
from simroot.training.checkpoint_file import fitting
from simroot.training.run import CONFIG, WEIGHTS, build_model, read_config, read_weights

_NAMED = 6  # tensors, or classes, that a line of the log names


class Start(NamedTuple):
    """Weights to start from.

    Attributes:
        path: a run directory, or a safetensors file or checkpoint.
        tensors: name -> tensor.
        classes: names in the order of the scores; None if that is not known.
        whole: all must fit, as a pre-training's, whose layers are made for one another.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...] | None = None
    whole: bool = False


class Origin(NamedTuple):
    """What weights to start from were trained as.

    Attributes:
        model: name of the network.
        overrides: arguments of its builder; it is drawn for the same size of image.
        image_size: height and width in pixels, one number if they are the same.
    """

    model: str
    overrides: Mapping[str, Any]
    image_size: ImageSize


def place_of(initial: str | Path) -> Path:
    """A path as it is; of a name of ``simroot.list_pretrained()`` that is no path, the file of its weights."""
    return weights_of(str(initial)).path if is_pretrained(initial) else Path(initial)


def origin_of(path: Path) -> Origin | None:
    """Of a run, and of weights that come with simroot; None for another file, which does not say.

    Raises:
        CheckpointError: for a directory that holds no run.
    """
    if (shipped := _shipped(path)) is not None:
        return Origin(shipped["model"], shipped["overrides"], as_image_size(shipped["image_size"]))
    if not path.is_dir():
        return None
    config = read_config(path)
    name, overrides = config["model"]["name"], config["model"]["overrides"]
    return Origin(name, read_back(name, overrides), as_image_size(config["data"]["image_size"]))


def read_start(path: Path) -> Start:
    """Read a run's best weights, or a file's.

    Raises:
        CheckpointError: if there are none, or they cannot be read.
    """
    if path.is_dir():
        config = read_config(path)
        return Start(path, read_weights(path / WEIGHTS), tuple(config["data"]["classes"]))
    if not path.is_file():
        raise CheckpointError(
            f"{path} does not exist; expected the weights to start from: a run directory or a safetensors file"
        )
    tensors, folder = read_weights(path), path.parent
    if (shipped := _shipped(path)) is not None:
        return Start(path, tensors, tuple(shipped["classes"]))
    if not (folder / CONFIG).is_file():
        return Start(path, tensors)
    try:
        return Start(path, tensors, tuple(read_config(folder)["data"]["classes"]))
    except CheckpointError:  # the config.yaml of a pre-training
        return Start(path, tensors, whole=path.name == WEIGHTS)


def _shipped(path: Path) -> Described | None:
    """What is known of weights that come with simroot."""
    found = path.suffix == ".safetensors" and path.stem in list_pretrained() and weights_of(path.stem)
    return found.described if found and found.path.resolve() == path.resolve() else None


def start_from(
    model: nn.Module, config: Mapping[str, Any], start: Start, handed: Network | None = None
) -> tuple[str, ...]:
    """Fill a network with the weights that fit it, in place; the others stay as they were drawn.

    A tensor fits if its name, shape and type are the same. Where the classes are known and are others, the tensors with
    a row for each class take the rows of the classes that both have, by name.

    Args:
        model: the network of ``config``.
        config: of the run that begins.
        start: the weights.
        handed: the network as the user has handed it over, if no name says what it is.

    Returns:
        Lines for the log: how many tensors fit, which do not, and which classes keep their rows.

    Raises:
        CheckpointError: if no tensor of at least two dimensions fits, or not all that must, or one is not finite.
    """
    if start.whole:
        model.load_state_dict(fitting(start.tensors, model.state_dict(), f"{start.path} does not fit the network"))
        return (f"initial weights from {start.path}",)
    expected, classes = model.state_dict(), tuple(config["data"]["classes"])
    others = start.classes if start.classes and start.classes != classes else ()
    of_classes = _class_tensors(config, expected, handed) if others else set()
    rows = [(classes.index(name), others.index(name)) for name in classes if name in others]
    taken = {
        name: _with_rows(tensor, expected[name], rows, len(others)) if name in of_classes else tensor
        for name, tensor in start.tensors.items()
        if name in expected and tensor.dtype == expected[name].dtype
    }
    taken = {name: tensor for name, tensor in taken.items() if tensor.shape == expected[name].shape}
    if broken := [name for name, tensor in taken.items() if not tensor.isfinite().all()]:
        raise CheckpointError(f"{start.path} is no start: {quoted(broken[0])[1:-1]} is not finite")
    if not any(tensor.ndim > 1 for tensor in taken.values()):
        raise CheckpointError(
            f"{start.path} does not fit the network: no layer's weights have the name and the shape of one of "
            f"{config['model']['name']}; choose the network that they were trained for, with its --set"
        )
    model.load_state_dict(taken, strict=False)
    anew = [name for name in expected if name not in taken]
    return _told(start, anew, len(expected), [classes[new] for new, _ in rows])


def _class_tensors(config: Mapping[str, Any], expected: Mapping[str, Tensor], handed: Network | None) -> set[str]:
    """The tensors with a row for each class: those that have one more in a network with one more class."""
    if isinstance(handed, nn.Module):  # there is no network with one more
        return set()
    data = config["data"]
    with torch.random.fork_rng(devices=[]):  # the weights are drawn for nothing
        wider = {**config, "data": {**data, "classes": [*data["classes"], ""]}}
        larger = build_model(wider, given(handed)).state_dict()
    return {name for name, own in expected.items() if own.ndim and larger[name].shape == (len(own) + 1, *own.shape[1:])}


def _with_rows(tensor: Tensor, own: Tensor, rows: Sequence[tuple[int, int]], classes: int) -> Tensor:
    """A tensor of this network's classes with the rows of a tensor of others; empty if the two are not alike."""
    if not rows or tensor.shape != (classes, *own.shape[1:]):
        return tensor.new_empty(0)
    new, old = map(list, zip(*rows, strict=True))
    matched = own.clone()
    matched[new] = tensor[old]
    return matched


def _told(start: Start, anew: Sequence[str], count: int, classes: Sequence[str]) -> tuple[str, ...]:
    lines = [f"initial weights from {start.path}: {count - len(anew)} of {counted(count, 'tensor')} fit"]
    if anew:
        lines[0] += f"; {counted(len(anew), 'tensor')} start anew: {listed(anew, _NAMED)}"
    if classes:
        lines.append(f"{counted(len(classes), 'class', 'classes')} keep their rows: {listed(classes, _NAMED)}")
    return tuple(lines)
