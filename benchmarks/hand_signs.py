"""Photos of hand signs by students, of whom the last fifth is held out: a student shows 0 to 9, one after another."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from simroot.data import ImageData, load

_SHARE = 0.8


def parts(folder: Path) -> dict[str, list[Path]]:
    """The photos of ``folder/DIGIT`` to train on, "train", and those held out, "val", by the numbers of the photos."""
    photos = sorted((int(re.findall(r"\d+", path.name)[0]), path.parent.name, path) for path in folder.glob("*/*"))
    cut = round(_SHARE * len(photos))
    while photos[cut][1] != "0" or photos[cut - 1][1] == "0":
        cut += 1
    paths = [path for _, _, path in photos]
    return {"train": paths[:cut], "val": paths[cut:]}


def by_student(folder: Path, **options: Any) -> ImageData:
    """The photos as data to train on; ``options`` are those of ``simroot.data.load``."""
    with tempfile.TemporaryDirectory() as made:
        for part, paths in parts(folder).items():
            for path in paths:
                link = Path(made, part, path.parent.name, path.name)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
        return load(made, **options)
