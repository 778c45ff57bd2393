"""``simroot correlation``: how the channels of two layers of a network go together."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from simroot.cli.datasource import add_data_arguments, data_source, logging_to_stderr
from simroot.cli.output import count_text, percent, print_facts, print_json, require_folder
from simroot.cli.values import add_model_overrides, image_size, positive
from simroot.errors import ConfigError, counted

if TYPE_CHECKING:
    from torch import nn

    from simroot.data import BatchLoader
    from simroot.measure import LayerCorrelation

_BATCH = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.argument_default = argparse.SUPPRESS
    parser.add_argument("model", metavar="RUN|MODEL", help="a run directory, or the name of a network, then untrained")
    parser.add_argument(
        "--layers",
        nargs=2,
        required=True,
        metavar=("A", "B"),
        help="two layers, as in 'simroot cost'; the filter groups of the second are the blocks",
    )
    parser.add_argument(
        "--groups", type=positive, metavar="N", default=None, help="blocks to mark (default: the groups of layer B)"
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        default=False,
        help="Pearson's correlation (default: first take out the correlation inside each layer, by whitening)",
    )
    parser.add_argument(
        "--arrange",
        action="store_true",
        default=False,
        help="put both layers' channels in the order that gathers most correlation in the blocks",
    )
    data = add_data_arguments(parser, default="the validation images of the training; with it, the data's test images")
    data.add_argument("--images", type=positive, metavar="N", help="use N of the images (default: all)")
    data.add_argument("--image-size", type=image_size, metavar="N|H,W", help="of an untrained network's images")
    add_model_overrides(parser)
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="where to draw it (default: correlation-A-B.png)")
    parser.add_argument("--json", action="store_true", default=False, help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Compute, draw and print the one number."""
    from simroot.files import write_atomic
    from simroot.measure import joint_moments, layer_correlation

    first, second = arguments.layers
    path: Path = vars(arguments).get("out", Path(f"correlation-{first}-{second}.png"))
    require_folder(path)
    with logging_to_stderr():
        title, model, batches = _network_and_images(arguments)
        moments = joint_moments(model, first, second, (images for images, _ in batches))
        found = layer_correlation(model, first, second, moments, groups=arguments.groups, whiten=not arguments.plain)
    if arguments.arrange:
        found = found.arrange()
    figure = found.figure(title)
    write_atomic(path, lambda file: figure.savefig(file, format="png"))
    if arguments.json:
        print_json({"network": title, **_facts(found), "plot": str(path)})
    else:
        _print(title, found, len(batches.split), path)
    return 0


def _network_and_images(arguments: argparse.Namespace) -> tuple[str, nn.Module, BatchLoader]:
    import torch

    from simroot.data import load, loader
    from simroot.data.crop import Crop
    from simroot.data.splits import stratified
    from simroot.models import create_model, model_entry, names_network
    from simroot.training import chosen_images, load_run

    given = vars(arguments)
    source = data_source(arguments)
    crop: Crop = "whole"
    if not names_network(arguments.model):
        if "image_size" in given or given.get("set"):
            raise ConfigError("--image-size and --set go with the name of a network, not with a run")
        run = load_run(Path(arguments.model))
        chosen = chosen_images(run, source)
        split = chosen.split
        title, model, mean, std = f"{run.model_name} on {chosen.title}", run.model, run.mean, run.std
        crop = run.recipe.crop
    else:
        data = load(**source)
        split, mean, std = data.val, data.mean, data.std
        options, _ = model_entry(arguments.model).arguments(
            dict(given.get("set", [])),
            num_classes=len(data.classes),
            in_channels=data.channels,
            image_size=data.image_size,
        )
        torch.manual_seed(0)
        model = create_model(arguments.model, **options)
        title = f"{arguments.model} (untrained) on {data.name}, validation images"
    if given.get("images", len(split)) < len(split):
        split = split.subset(stratified(split.labels, arguments.images, seed=0)[0])
    return title, model, loader(split, _BATCH, mean=mean, std=std, train=False, crop=crop)


def _facts(found: LayerCorrelation) -> dict[str, object]:
    return {
        "layers": found.layers,
        "whitened": found.whitened,
        "arranged": found.arranged,
        "groups": len(found.rows),
        "channels": tuple(found.matrix.shape),
        "samples": found.samples,
        "share_in_blocks": found.share,
        "uniform_share": found.uniform,
        "block_diagonality": found.block_diagonality,
    }


def _print(title: str, found: LayerCorrelation, images: int, path: Path) -> None:
    number = "-: one group, so that everything is in it" if found.block_diagonality is None else None
    facts = [
        ("layers", f"{found.layers[0]} and {found.layers[1]}, {' and '.join(map(str, found.matrix.shape))} channels"),
        ("groups", str(len(found.rows))),
        ("images", f"{count_text(images)}, {counted(found.samples, 'position')}"),
        ("squared correlation in the blocks", f"{percent(found.share)}; equal everywhere: {percent(found.uniform)}"),
        ("block-diagonality", number or f"{found.block_diagonality:.4f}"),
        ("plot", str(path)),
    ]
    print_facts(title, facts)
