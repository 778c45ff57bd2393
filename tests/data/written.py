"""The same small images in every form that data can have."""

from __future__ import annotations

import csv
import json
import tarfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CLASSES = ("ant", "bee", "cat")
Pictures = Sequence[tuple[Path, str]]


def photos(folder: Path, count: int = 60, size: int = 8) -> Pictures:
    """Class folders of random images with their classes, in no order."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(count):
        label = CLASSES[number % len(CLASSES)]
        path = folder / label / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)
        found.append((path, label))
    return [found[number] for number in generator.permutation(count)]


def write_csv(path: Path, pictures: Pictures, sign: str = ",") -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file, delimiter=sign)
        table.writerow(["filename", "class"])
        table.writerows((image.relative_to(path.parent), label) for image, label in pictures)
    return path


def write_tsv(path: Path, pictures: Pictures) -> Path:
    return write_csv(path, pictures, "\t")


def write_jsonl(path: Path, pictures: Pictures) -> Path:
    lines = [json.dumps({"file_name": str(image), "label": label}) for image, label in pictures]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def hugging_face(pictures: Pictures) -> Any:
    """A table of pyarrow's as the datasets package makes it."""
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    kinds = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CLASSES)}}
    image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    schema = arrow.schema(
        [("image", image), ("label", arrow.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": kinds}})},
    )
    rows = [
        {"image": {"bytes": path.read_bytes(), "path": path.name}, "label": CLASSES.index(label)}
        for path, label in pictures
    ]
    return arrow.Table.from_pylist(rows, schema)


def write_parquet(folder: Path, pictures: Pictures) -> Path:
    table = hugging_face(pictures)
    parquet = pytest.importorskip("pyarrow.parquet")
    (folder / "data").mkdir(parents=True)
    for number in range(2):
        half = table.slice(number * len(table) // 2, len(table) // 2)
        parquet.write_table(half, folder / "data" / f"train-{number:05}-of-00002.parquet")
    return folder


def write_saved(folder: Path, pictures: Pictures) -> Path:
    """What Dataset.save_to_disk leaves, and a file of a cache that is none of it."""
    table = hugging_face(pictures)
    arrow = pytest.importorskip("pyarrow")
    folder.mkdir()
    name = "data-00000-of-00001.arrow"
    with arrow.ipc.new_stream(folder / name, table.schema) as stream:
        stream.write_table(table)
    (folder / "cache-1.arrow").write_bytes(b"of another table")
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    return folder


def write_shards(folder: Path, pictures: Pictures) -> Path:
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed")
    folder.mkdir()
    with wds.ShardWriter(str(folder / "%03d.tar"), maxcount=25, verbose=0) as writer:
        for image, label in pictures:
            writer.write({"__key__": image.stem, "png": image.read_bytes(), "cls": label})
    return folder


def write_json_shards(folder: Path, pictures: Pictures) -> Path:
    """Labels in .json, without the package; the pattern for all of them."""
    folder.mkdir()
    for number in range(3):
        with tarfile.open(folder / f"{number:03}.tar", "w") as archive:
            for image, label in pictures[number::3]:
                label_file = json.dumps({"label": label, "width": 8}).encode()
                for name, content in ((image.name, image.read_bytes()), (f"{image.stem}.json", label_file)):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, BytesIO(content))
    return folder / "{000..002}.tar"


FORMS: dict[str, Callable[[Path, Pictures], Path]] = {
    "t.csv": write_csv,
    "t.tsv": write_tsv,
    "t.jsonl": write_jsonl,
    "parquet": write_parquet,
    "saved": write_saved,
    "shards": write_shards,
    "json-shards": write_json_shards,
}
