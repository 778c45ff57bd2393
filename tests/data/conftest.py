"""Small images written where a test wants them."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

WriteClasses = Callable[..., Path]


@pytest.fixture
def write_classes() -> WriteClasses:
    """write(folder, {"cat": 3, "dog": 4}, size=8, mode="RGB"): that many random images per class folder."""

    def write(folder: Path, counts: dict[str, int], *, size: int | tuple[int, int] = 8, mode: str = "RGB") -> Path:
        width, height = (size, size) if isinstance(size, int) else size
        generator = np.random.default_rng(len(folder.parts))
        for name, count in counts.items():
            (folder / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(folder / name / f"{number:03}.png")
        return folder

    return write


@pytest.fixture
def pack() -> Callable[[Path, Path], Path]:
    """pack(folder, archive): the archive of the folder, its name included, by the archive's suffix."""

    modes: dict[str, Literal["w", "w:xz", "w:gz"]] = {".tar": "w", ".xz": "w:xz"}

    def write(folder: Path, archive: Path) -> Path:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
                for path in sorted(folder.rglob("*")):
                    zipped.write(path, path.relative_to(folder.parent))
        else:
            with tarfile.open(archive, modes.get(archive.suffix, "w:gz")) as tar:
                tar.add(folder, folder.name)
        return archive

    return write
