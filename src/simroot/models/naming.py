"""Networks by names that the registry does not hold: those of other libraries, and the files of ``simroot rootify``.

Importing this module makes the names known: ``torchvision:NAME``, ``timm:NAME`` and ``FILE.safetensors`` then go
wherever the name of a network goes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from simroot.errors import CheckpointError, ConfigError, is_whole, quoted
from simroot.models.registry import ROOTIFIED, SOURCES, ModelEntry, create_model, list_models, model_entry
from simroot.untrusted.documents import read_json

_IMAGENET = 224
_OF_IMAGES = ("num_classes", "in_channels", "image_size")


class RootifiedFile(NamedTuple):
    """What the JSON file beside a root network's weights says of it.

    Attributes:
        model: name of the network that was rootified.
        arguments: of its builder.
        groups: layer -> filter groups.
        input_size: (C, H, W) of one example.
    """

    model: str
    arguments: dict[str, Any]
    groups: dict[str, Any]
    input_size: tuple[int, int, int]

    @property
    def overrides(self) -> dict[str, Any]:
        """Keyword arguments with which ``create_model`` builds the root network."""
        groups = {**self.arguments.get(ROOTIFIED, {}), **self.groups}  # the network may have had some before
        return {"image_size": list(self.input_size[1:]), **self.arguments, ROOTIFIED: groups}

    @property
    def shape(self) -> dict[str, Any]:
        """Those of the overrides that do not come from the images."""
        return {key: value for key, value in self.overrides.items() if key not in _OF_IMAGES}

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.arguments.get("num_classes", model_entry(self.model).num_classes))


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network with freshly drawn weights.

    Args:
        name: as for ``create_model``.
        arguments: of ``create_model``; another library's network has its own number of classes without one.

    Raises:
        ConfigError: as ``create_model``.
    """
    own = {} if name in list_models() else {"num_classes": model_entry(name).num_classes}
    return create_model(name, **{**own, **arguments})


def load_rootified(path: str | Path) -> nn.Module:
    """The root network that ``simroot rootify`` has saved, in evaluation mode.

    Args:
        path: the safetensors file; the JSON file of the same name beside it says how to build the network.

    Raises:
        CheckpointError: if a file is missing or damaged, or the weights do not fit the network.
        ConfigError: if the network comes from a library that is not installed, or cannot be built as described.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    path = Path(path)
    found = read_rootified(path)
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn for nothing
        model = build_network(found.model, found.overrides)
    try:
        load_model(model, path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist; expected the weights that {_beside(path).name} describes"
        ) from error
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path} is damaged or does not fit the network of {_beside(path).name}: {reason}"
        ) from error
    return model.eval()


def read_rootified(path: Path) -> RootifiedFile:
    """What is said of a root network in the JSON file beside its weights.

    Raises:
        CheckpointError: if the file is missing or damaged.
    """
    description = _beside(path)
    try:
        config = read_json(description)
        name, arguments, groups, size = (config[key] for key in ("model", "arguments", "groups", "input_size"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{description} does not exist; simroot rootify writes it beside {path.name}") from error
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{description} is damaged, or not written by simroot rootify: {error!r}") from error
    kinds = isinstance(name, str) and isinstance(arguments, dict) and isinstance(groups, dict)
    if not (kinds and isinstance(size, list) and len(size) == 3 and all(is_whole(length, 1) for length in size)):
        raise CheckpointError(
            f"{description} is damaged: expected a word as model, mappings as arguments and groups, and three positive "
            f"integers as input_size; found {quoted(name)}, {quoted(arguments)}, {quoted(groups)} and {quoted(size)}"
        )
    return RootifiedFile(name, arguments, groups, (size[0], size[1], size[2]))


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")


def _torchvision(name: str) -> ModelEntry:
    plain = name.partition(":")[2]

    def build(
        num_classes: int = 1000, in_channels: int = 3, *, image_size: Any = _IMAGENET, **arguments: Any
    ) -> nn.Module:
        if in_channels != 3:
            raise ConfigError(f"{name} takes images of 3 channels; received {in_channels}")
        from torchvision.models import get_model_builder

        try:
            builder = get_model_builder(plain)
        except ValueError as error:
            raise ConfigError(f"torchvision cannot build {plain!r}: {error}") from error
        # Networks for segmentation and detection download weights for a part of theirs otherwise.
        backbone = {"weights_backbone": None} if "weights_backbone" in inspect.signature(builder).parameters else {}
        network: nn.Module = builder(**{"weights": None, **backbone, "num_classes": num_classes, **arguments})
        return network

    return ModelEntry(name, build, f"{plain} of torchvision", _IMAGENET, num_classes=1000)


def _timm(name: str) -> ModelEntry:
    plain = name.partition(":")[2]

    def build(
        num_classes: int = 1000, in_channels: int = 3, *, image_size: Any = _IMAGENET, **arguments: Any
    ) -> nn.Module:
        import timm

        try:
            network: nn.Module = timm.create_model(
                plain, pretrained=False, num_classes=num_classes, in_chans=in_channels, **arguments
            )
        except RuntimeError as error:  # what it says of an unknown name, too
            raise ConfigError(f"timm cannot build {plain!r}: {error}") from error
        return network

    return ModelEntry(name, build, f"{plain} of timm", _IMAGENET, num_classes=1000)


def _saved(name: str) -> ModelEntry:
    found = read_rootified(Path(name))

    def build(num_classes: int = 0, in_channels: int = 0, *, image_size: Any = 0, **arguments: Any) -> nn.Module:
        """The root network as it was saved; what it was built with stays."""
        if arguments:
            raise ConfigError(f"{name} was saved with its arguments; received {', '.join(arguments)} beside it")
        asked = {"classes": (num_classes, entry.num_classes), "channels": (in_channels, entry.in_channels)}
        for what, (received, own) in asked.items():
            if received != own:
                raise ConfigError(f"{name} is a network for {own} {what}; received {received}")
        return load_rootified(name)

    size = found.input_size
    entry = ModelEntry(name, build, f"{found.model} with filter groups", size[1], size[0], found.classes)
    return entry


SOURCES.update({"torchvision": _torchvision, "tv": _torchvision, "timm": _timm, ".safetensors": _saved})
