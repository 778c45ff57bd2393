"""Networks of other libraries by name, and root networks from the files of ``simroot rootify``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from simroot.errors import CheckpointError, ConfigError, is_whole, quoted
from simroot.models.registry import create_model
from simroot.roots.rootify import rootify
from simroot.untrusted.documents import read_json


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network with freshly drawn weights.

    Args:
        name: a name of ``list_models()``, ``torchvision:NAME`` or ``timm:NAME``.
        arguments: of its builder.

    Raises:
        ConfigError: if there is no such network or library, or it cannot be built with these arguments.
    """
    source, colon, plain = name.rpartition(":")
    if not colon:
        return create_model(name, **arguments)
    try:
        if source in ("torchvision", "tv"):
            from torchvision.models import get_model_builder

            build = get_model_builder(plain)
            # Networks for segmentation and detection download weights for a part of theirs otherwise.
            backbone = {"weights_backbone": None} if "weights_backbone" in inspect.signature(build).parameters else {}
            network: nn.Module = build(**{"weights": None, **backbone, **arguments})
            return network
        if source == "timm":
            import timm

            return timm.create_model(plain, pretrained=False, **arguments)
    except ImportError:
        raise ConfigError(
            f"{source} is not installed; install it ('pip install {source}') to use its networks"
        ) from None
    except (ValueError, RuntimeError, TypeError) as error:
        raise ConfigError(f"{source} cannot build {plain!r}: {error}") from error
    raise ConfigError(f"{source!r} is no source of networks; expected torchvision:NAME, timm:NAME or a plain name")


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
    description = path.with_suffix(".json")
    name, arguments, groups, size = _read(description, path.name)
    with torch.random.fork_rng(devices=[]):  # the initial weights are drawn for nothing
        model = rootify(build_network(name, arguments), groups, example_input=torch.zeros(1, *size))
    try:
        load_model(model, path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} does not exist; expected the weights that {description.name} describes"
        ) from error
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise CheckpointError(
            f"{path} is damaged or does not fit the network of {description.name}: {reason}"
        ) from error
    return model.eval()


def _read(description: Path, weights: str) -> tuple[str, dict[str, Any], dict[str, Any], list[int]]:
    try:
        config = read_json(description)
        name, arguments, groups, size = (config[key] for key in ("model", "arguments", "groups", "input_size"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{description} does not exist; simroot rootify writes it beside {weights}") from error
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{description} is damaged, or not written by simroot rootify: {error!r}") from error
    kinds = isinstance(name, str) and isinstance(arguments, dict) and isinstance(groups, dict)
    if not (kinds and isinstance(size, list) and len(size) == 3 and all(is_whole(length, 1) for length in size)):
        raise CheckpointError(
            f"{description} is damaged: expected a word as model, mappings as arguments and groups, and three positive "
            f"integers as input_size; found {quoted(name)}, {quoted(arguments)}, {quoted(groups)} and {quoted(size)}"
        )
    return name, arguments, groups, size
