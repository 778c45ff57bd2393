"""Makes weights that come with simroot of a run.

``python -m simroot.training.shipping RUN NAME`` writes the three files of ``simroot.models.pretrained``; then
``python -m simroot.models.catalogue`` writes the catalogue anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from simroot.errors import ConfigError, counted
from simroot.files import write_text
from simroot.models import list_models
from simroot.models.pretrained import FOLDER, Described
from simroot.training.run import WEIGHTS, Run, load_run

_CARD = """# {name}

`simroot.create_model("{name}", pretrained=True)`, or `simroot train --initial {name} --data PATH` for other classes.

| | |
| --- | --- |
| network | `{model}`{overrides} |
| parameters, MACs | {parameters:,}, {macs:,} (deployed) |
| images | {colours} of {size} pixels, mean {mean}, deviation {std} in units of pixel / 255 |
| classes | {classes} |
| accuracy | {accuracy:.2%} on {validation:,} validation images of {data} |
| training | {train:,} images, {epochs} epochs, seed {seed}{teacher} |

The best epoch was chosen by the same validation images. The network knows these classes alone: what it says of other
images means nothing.
"""


def ship(run: Run, name: str, folder: Path = FOLDER) -> Path:
    """Write a finished run's best weights, their description and their card.

    Args:
        run: of ``load_run``.
        name: that they get, of lower case letters, digits and underscores.
        folder: where the files go.

    Returns:
        The JSON file.

    Raises:
        ConfigError: if the run is not finished, or the name is not one, or another network's.
    """
    if not run.summary:
        raise ConfigError(f"{run.path} is not finished; expected a run with its summary")
    if run.thresholds is not None:
        raise ConfigError(f"{run.path} is of images with any number of classes; expected images with one")
    if not (name.isidentifier() and name.islower()):
        raise ConfigError(f"the name is {name!r}; expected lower case letters, digits and underscores")
    path = folder / f"{name}.json"
    if name in list_models() and not path.exists():
        raise ConfigError(f"{name} is a registered network; expected another name, as in {name}_cifar10")
    summary, data = run.summary, run.config["data"]
    described: Described = {
        "model": run.model_name,
        "overrides": {key: value for key, value in run.arguments.items() if key not in _OF_IMAGES},
        "image_size": data["image_size"],
        "channels": run.channels,
        "mean": list(run.mean),
        "std": list(run.std),
        "classes": list(run.classes),
        "accuracy": summary["accuracy"],
        "validation": data["val"],
        "data": data["name"],
        "parameters": summary["parameters"],
        "macs": summary["macs"],
        "recipe": run.recipe.to_dict(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run.path / WEIGHTS, path.with_suffix(".safetensors"))
    write_text(path, json.dumps(described, indent=1) + "\n")
    write_text(path.with_suffix(".md"), _card(name, run, described))
    return path


_OF_IMAGES = ("num_classes", "in_channels", "image_size")


def _card(name: str, run: Run, described: Described) -> str:
    values = {
        **described,
        "overrides": "".join(f", {key} {value}" for key, value in described["overrides"].items()),
        "colours": counted(run.channels, "channel"),
        "size": " x ".join(map(str, run.preparation.size)),
        "classes": ", ".join(run.classes),
        "mean": ", ".join(f"{value:.3f}" for value in run.mean),
        "std": ", ".join(f"{value:.3f}" for value in run.std),
        "train": run.config["data"]["train"],
        "epochs": run.summary["epochs"],
        "seed": run.recipe.seed,
        "teacher": f", taught by {Path(teacher['source']).name}" if (teacher := run.config.get("teacher")) else "",
    }
    return _CARD.format(name=name, **values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    arguments = parser.parse_args()
    print(ship(load_run(arguments.run), arguments.name))
