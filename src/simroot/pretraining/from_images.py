"""Pre-training from images to a directory that training starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from simroot.data import ImageData, loader
from simroot.errors import ConfigError
from simroot.pretraining.channels import build
from simroot.pretraining.report import Report
from simroot.pretraining.saved import Start, require_unused, save

_BATCH = 256


def pretrain(
    model: str,
    data: ImageData,
    overrides: Mapping[str, Any],
    out: Path,
    *,
    seed: int,
    facts: Mapping[str, Any],
    progress: bool = False,
    **options: Any,
) -> tuple[Start, Report]:
    """Pre-train a registered network on the training images and write it, its report and pictures to a directory.

    Args:
        model: name of the network in the registry.
        data: its training images are what the network is pre-trained on.
        overrides: arguments of its builder; the image size is the data's unless it is among them.
        out: the directory to make.
        seed: of the weights that stay random, of patches and of estimators.
        facts: what config.yaml says beside the network and the options; plain values.
        progress: show progress on standard error.
        **options: of ``build``.

    Raises:
        ConfigError: if the directory is in use, or for a wrong option.
        DataError: for images that cannot be learned from.
    """
    require_unused(out)
    if data.multi_label and options.get("offsets") == "labels":
        raise ConfigError("offsets from labels need one class an image, but these may have several: take other offsets")
    images = loader(data.train, _BATCH, mean=data.mean, std=data.std, train=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, chosen, report = build(
            model,
            images,
            num_classes=len(data.classes),
            in_channels=data.channels,
            overrides={"image_size": data.image_size, **overrides},
            generator=torch.Generator().manual_seed(seed),
            progress=progress,
            **options,
        )
    if "image_size" not in overrides:
        del chosen["image_size"]  # a run takes it from its data
    return save(out, model, chosen, network, report, {"pretraining": {"seed": seed, **options}, **facts}), report
