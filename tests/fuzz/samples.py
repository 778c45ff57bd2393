"""Good files of every kind that is read, made once: what the damage starts from."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from data.test_named import write_cifar, write_idx, write_svhn
from data.written import photos, write_csv, write_json_shards, write_jsonl, write_parquet, write_saved
from simroot.cli import main
from simroot.data import load
from simroot.reproduce import experiment
from simroot.training import for_data
from simroot.trials.experiment import _sizes

REPORT = "simnets-compact"


def make(folder: Path) -> None:
    """Make all of them in a folder: a run, an exported file, images, archives, a report and files of named sets."""
    make_run(folder)
    assert main(["export", str(folder / "run"), "--images", "4", "--out", str(folder / "model.onnx")]) == 0
    _archives(folder)
    _tables(folder / "forms")
    _report(folder / f"{REPORT}.json")
    for name, write in {"cifar": lambda path: write_cifar(path, 10), "svhn": write_svhn}.items():
        write(folder / name)
    write_idx(folder / "fashion", compressed=True)


def make_run(folder: Path) -> None:
    """Make a run and images."""
    words = ["train", "--data", "digits", "--model", "simnet_mlp", "--limit", "40", "--recipe.epochs", "2", "--quiet"]
    assert main([*words, "--out", str(folder / "run")]) == 0
    _images(folder / "images")


def _images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for number, kind in enumerate(("png", "jpg", "gif", "bmp", "webp", "tif", "ppm")):
        place = folder / str(number % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(place / f"a.{kind}")


def _tables(folder: Path) -> None:
    """Called t.*, with the photos beside them."""
    pictures = photos(folder / "photos", 12)
    write_csv(folder / "t.csv", pictures)
    write_jsonl(folder / "t.jsonl", [(path.relative_to(folder), label) for path, label in pictures])
    write_json_shards(folder / "shards", pictures)
    (folder / "shards" / "000.tar").rename(folder / "t.tar")
    if importlib.util.find_spec("pyarrow"):
        write_parquet(folder / "parquet", pictures)
        next((folder / "parquet" / "data").iterdir()).rename(folder / "t.parquet")
        write_saved(folder / "saved", pictures)
        next((folder / "saved").glob("data*")).rename(folder / "t.arrow")


def _archives(folder: Path) -> None:
    with (
        zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        tarfile.open(folder / "a.tar.gz", "w:gz") as tar,
    ):
        for name in "0123456789":
            buffer = io.BytesIO()
            Image.fromarray(np.full((8, 8), 25 * int(name), dtype=np.uint8)).save(buffer, "png")
            archive.writestr(f"{name}/a.png", buffer.getvalue())
            entry = tarfile.TarInfo(f"{name}/a.png")
            entry.size = len(buffer.getvalue())
            tar.addfile(entry, io.BytesIO(buffer.getvalue()))
    (folder / "a.tar").write_bytes(gzip.decompress((folder / "a.tar.gz").read_bytes()))


def _report(path: Path) -> None:
    data = load("digits")
    plan = experiment(REPORT)
    rows = [
        {
            "model": trial.model,
            "overrides": dict(trial.overrides),
            "seed": 0,
            "epochs": plan.epochs,
            "accuracy": 0.5,
            "best_accuracy": 0.6,
            "parameters": 1000,
            "macs": 10_000,
            "flops": 20_000,
            "seconds": 1.5,
            "recipe": for_data(trial.recipe, data.named, data.image_size).to_dict(),
            "versions": {},
            "commit": None,
            "command": "simroot train",
            "validation_accuracy_by_epoch": [0.5] * plan.epochs,
            "start": "pre-trained" if trial.pretrained else "random",
        }
        for trial in plan.trials(plan.epochs, 0)
    ]
    content = {"title": "x", "data": data.name, "split": _sizes(data), "versions": {}, "rows": rows}
    path.write_text(json.dumps(content))


def copied(samples: Path, name: str, folder: Path) -> Path:
    """A copy of a file or folder of the samples in a folder of its own."""
    source, target = samples / name, folder / name
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    return target
