"""Weights that come with simroot: networks that are trained already.

Each is three files in this folder: ``NAME.safetensors``, the weights; ``NAME.json``, how to build the network and what
it was trained on; ``NAME.md``, a card for people. ``python -m simroot.training.shipping RUN NAME`` makes them of a run.
The names are registered networks: without ``pretrained=True`` they have the same shape and random weights.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from simroot.errors import CheckpointError, ConfigError, nearest, quoted
from simroot.models import registry
from simroot.models.registry import ModelEntry, create_model, model_entry
from simroot.untrusted.documents import read_json, require_regular
from simroot.untrusted.schema import Positive, Range, require
from simroot.untrusted.tensors import fitting

FOLDER = Path(__file__).parent


class Described(TypedDict):
    """What ``NAME.json`` says.

    Attributes:
        model: name of the registered network.
        overrides: of its builder.
        image_size: side of the images, or height and width.
        channels: of the images.
        mean, std: per channel, in units of pixel / 255.
        classes: names in the order of the scores.
        accuracy: on ``validation`` images that it was not trained on.
        validation: how many.
        data: name of the images.
        parameters: of the deployed network.
        macs: of the deployed network.
        recipe: fields of the recipe.
    """

    model: str
    overrides: dict[str, Any]
    image_size: Positive | list[Positive]
    channels: Positive
    mean: list[float]
    std: list[float]
    classes: list[str]
    accuracy: Annotated[float, Range(0, 1)]
    validation: Positive
    data: str
    parameters: Positive
    macs: Positive
    recipe: dict[str, Any]


class Weights(NamedTuple):
    """Weights that come with simroot.

    Attributes:
        path: the safetensors file.
        described: what is known of them.
    """

    path: Path
    described: Described

    @property
    def overrides(self) -> dict[str, Any]:
        """Keyword arguments with which ``create_model`` builds the network."""
        return {"image_size": self.described["image_size"], **self.described["overrides"]}

    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor.

        Raises:
            CheckpointError: if the file is missing or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            require_regular(self.path)
            return dict(load_file(self.path))
        except (SafetensorError, ConfigError, OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{self.path} is missing or damaged: {error}") from error


def list_pretrained() -> list[str]:
    """Sorted names of the networks that ``create_model(name, pretrained=True)`` has weights for."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def is_pretrained(place: str | Path) -> bool:
    """Whether what may be a path or a name is a name of ``list_pretrained()``: no path of that name exists."""
    return str(place) in list_pretrained() and not Path(place).exists()


def weights_of(name: str) -> Weights:
    """The weights of a name of ``list_pretrained()``.

    Raises:
        ConfigError: for another name; the message names those that have weights.
        CheckpointError: if their description is damaged.
    """
    if name not in (names := list_pretrained()):
        known = nearest(name, names) if names else "no network of this version has some"
        raise ConfigError(f"{quoted(name)[1:-1]} has no weights to start from; {known}")
    path = FOLDER / f"{name}.json"
    try:
        described = read_json(path)
        require(described, Described, "")
        if not len(described["mean"]) == len(described["std"]) == described["channels"]:
            raise ConfigError(f"mean and std have no value for each of {described['channels']} channels")
    except (ConfigError, OSError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    return Weights(path.with_suffix(".safetensors"), described)


def load_pretrained(name: str, num_classes: int, in_channels: int, overrides: Mapping[str, Any]) -> nn.Module:
    """The network of a name with its weights, in evaluation mode, with the attribute ``pretrained``.

    Raises:
        ConfigError: for a name without weights, and for classes, channels or overrides that are not the weights'.
        CheckpointError: if a file is damaged, or the weights do not fit.
    """
    weights = weights_of(name)
    described = weights.described
    own = {"num_classes": len(described["classes"]), "in_channels": described["channels"], **weights.overrides}
    given = {"num_classes": num_classes, "in_channels": in_channels, **overrides}
    if others := [key for key, value in given.items() if key not in own or value != own[key]]:
        key = others[0]
        raise ConfigError(
            f"the weights of {name} are for {key}={quoted(own.get(key))}; received {quoted(given[key])}: take it, or "
            "have simroot train --initial start from them"
        )
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn for nothing
        model = create_model(described["model"], **own)
    model.load_state_dict(fitting(weights.tensors(), model.state_dict(), f"the weights of {name} do not fit it"))
    known = ("mean", "std", "classes", "accuracy", "recipe", "data", "image_size")
    model.pretrained = {key: described[key] for key in known}  # type: ignore[assignment, literal-required]
    return model.eval()


def register_pretrained() -> None:
    """Make the names those of registered networks."""
    for name in list_pretrained():
        described = weights_of(name).described
        base, size = model_entry(described["model"]), described["image_size"]
        registry.add(
            ModelEntry(
                name=name,
                build=functools.partial(base.build, **described["overrides"]),
                summary=f"{base.name} with weights: {described['accuracy']:.1%} on {described['data']}.",
                image_size=size if isinstance(size, int) else min(size),
                in_channels=described["channels"],
                num_classes=len(described["classes"]),
                parameters=described["parameters"],
                macs=described["macs"],
                recipe=MappingProxyType(dict(base.recipe)),
            )
        )


register_pretrained()
