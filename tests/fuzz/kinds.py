"""The kinds of hostile input: each makes one case from good files and hands it to what reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
import yaml

from fuzz.mutations import ODD_TEXTS, ODD_VALUES, changed, damaged
from fuzz.samples import REPORT, copied
from simroot.cli import main
from simroot.data import load

Case = Callable[[Path, Path, Random], object]


def config(samples: Path, folder: Path, random: Random) -> int:
    """config.yaml of a run, or of ``--config``."""
    run = copied(samples, "run", folder)
    file = run / "config.yaml"
    content = yaml.safe_load(file.read_text())
    if random.random() < 0.3:
        file.write_bytes(damaged(file.read_bytes(), random))
    else:
        for _ in range(random.choice((1, 1, 2))):
            content = changed(content, random)
        file.write_text(yaml.safe_dump(content, allow_unicode=random.random() < 0.5))
    words = [
        "train",
        "--config",
        str(file),
        "--quiet",
        "--limit",
        "40",
        "--recipe.epochs",
        "1",
        "--out",
        str(folder / "new"),
    ]
    return main(
        random.choice((["cost", str(run)], ["evaluate", str(run)], words, ["train", "--resume", str(run), "--quiet"]))
    )


def checkpoint(samples: Path, folder: Path, random: Random) -> int:
    """last.ckpt, with values of other types inside, or other bytes."""
    run = copied(samples, "run", folder)
    file = run / "last.ckpt"
    if random.random() < 0.3:
        file.write_bytes(damaged(file.read_bytes(), random))
    else:
        content = torch.load(file, weights_only=True)
        for _ in range(random.choice((1, 1, 3))):
            content = changed(content, random, tensors=True)
        torch.save(content, file)
    if random.random() < 0.7:
        (run / "best.ckpt").unlink()
    return main(["train", "--resume", str(run), "--quiet"])


def weights(samples: Path, folder: Path, random: Random) -> int:
    """model.safetensors."""
    run = copied(samples, "run", folder)
    file = run / "model.safetensors"
    content = file.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    front = damaged(content[:header], random) if random.random() < 0.7 else content[:header]
    file.write_bytes(front + (content[header:] if front != content[:header] else damaged(content[header:], random)))
    return main(["predict", str(run), str(samples / "images"), "--json"])


def report(samples: Path, folder: Path, random: Random) -> int:
    """The JSON file of an experiment that was reported before."""
    file = copied(samples, f"{REPORT}.json", folder)
    if random.random() < 0.3:
        file.write_bytes(damaged(file.read_bytes(), random))
    else:
        content = json.loads(file.read_text())
        content["rows"] = [random.choice(content["rows"])] if random.random() < 0.5 else content["rows"]
        file.write_text(json.dumps(changed(content, random)))
    return main(["reproduce", REPORT, "--report-only", "--data", "digits", "--results", str(folder)])


def summary(samples: Path, folder: Path, random: Random) -> int:
    """summary.json."""
    run = copied(samples, "run", folder)
    file = run / "summary.json"
    file.write_text(json.dumps(changed(json.loads(file.read_text()), random)))
    return main(["evaluate", str(run), "--json"])


def onnx(samples: Path, folder: Path, random: Random) -> int:
    """An exported file."""
    file = copied(samples, "model.onnx", folder)
    file.write_bytes(damaged(file.read_bytes(), random))
    return main(["predict", str(file), str(samples / "images"), "--json", "--threads", "1"])


def images(samples: Path, folder: Path, random: Random) -> int:
    """Images of several formats."""
    place = copied(samples, "images", folder)
    for file in sorted(place.rglob("a.*")):
        file.write_bytes(damaged(file.read_bytes(), random))
    return main(["predict", str(samples / "run"), str(place)])


def archive(samples: Path, folder: Path, random: Random) -> int:
    """An archive of class folders."""
    file = copied(samples, random.choice(("a.zip", "a.tar.gz", "a.tar")), folder)
    file.write_bytes(damaged(file.read_bytes(), random))
    return main(["evaluate", str(samples / "run"), "--data", str(file)])


def named(samples: Path, folder: Path, random: Random) -> object:
    """Files of a named set."""
    place, name = random.choice((("cifar", "cifar10"), ("svhn", "svhn"), ("fashion", "fashion-mnist")))
    root = copied(samples, place, folder)
    file = random.choice(sorted(path for path in root.rglob("*") if path.is_file()))
    file.write_bytes(damaged(file.read_bytes(), random))
    return load(name, data_root=root, download=False)


def tables(samples: Path, folder: Path, random: Random) -> object:
    """Tables, Arrow files and shards."""
    place = copied(samples, "forms", folder)
    file = random.choice(sorted(path for path in place.rglob("t.*") if path.is_file()))
    file.write_bytes(damaged(file.read_bytes(), random))
    return load(file, image_root=place)


_OPTIONS = (
    *("--recipe.epochs", "--recipe.batch_size", "--recipe.learning_rate", "--recipe.milestones", "--recipe.schedule"),
    *("--recipe.shift", "--recipe.mirror", "--recipe.seed", "--recipe", "--model", "--set", "--image-size", "--limit"),
    *(
        "--devices",
        "--accelerator",
        "--strategy",
        "--data",
        "--data-root",
        "--config",
        "--resume",
        "--threads",
        "--input-size",
    ),
    *("--num-classes", "--batch", "--top", "--format", "--parameters", "--macs", "--milliseconds", "--\x1b[31m", "-x"),
)
_COMMANDS = (
    "cost",
    "models",
    "predict",
    "evaluate",
    "train",
    "design",
    "export",
    "rootify",
    "reproduce",
    "doctor",
    "\x1b[2J",
    "",
)
_WORDS = (
    "simnet2",
    "nin",
    "order=2",
    "channels=8",
    "channels=1000000",
    "order=[[[[",
    "digits",
    "3,32,32",
    "1",
    "cpu",
    "none",
)


def words(samples: Path, folder: Path, random: Random) -> int:
    """A command line."""
    command = random.choice(_COMMANDS)
    line = [command]
    if command in ("cost", "export", "rootify"):
        line.append(random.choice(("simnet2", str(samples / "run"), random.choice(ODD_TEXTS))))
    if command == "train":  # if the damage lets it train, then not for long
        line += [
            "--limit",
            "40",
            "--recipe.epochs",
            "1",
            "--recipe.batch_size",
            "16",
            "--quiet",
            "--accelerator",
            "cpu",
        ]
    for _ in range(random.choice((1, 1, 2, 3))):
        line.append(random.choice(_OPTIONS))
        line.append(
            random.choice((*_WORDS, *ODD_TEXTS, *(str(value)[:6000] for value in ODD_VALUES if value != 10**400)))
        )
    if command == "design":
        line += ["--parameters", "-1"]
    return main([word.replace("\0", "") for word in line])


KINDS: dict[str, Case] = {
    "config": config,
    "checkpoint": checkpoint,
    "weights": weights,
    "report": report,
    "summary": summary,
    "onnx": onnx,
    "images": images,
    "archive": archive,
    "named": named,
    "tables": tables,
    "words": words,
}
