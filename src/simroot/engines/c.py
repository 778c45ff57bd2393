"""The C export compiled for this machine: its ``.c`` file, with the header and ``.c.json`` beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines import host
from simroot.engines.protocol import Engine, Loaded
from simroot.errors import ConfigError, ExportError


class C(Engine):
    """One thread and one image at a time, as on a device."""

    name = "c"
    suffixes = (".c",)

    def require(self) -> ModuleType:
        if host.compiler() is None:
            raise ConfigError("engine c needs a C compiler; install gcc or clang, or name one in CC")
        return host

    def load(self, source: Path, threads: int | None = None, shape: tuple[int, ...] | None = None) -> Loaded:
        facts = json.loads(source.with_name(f"{source.name}.json").read_text(encoding="utf-8"))
        header = source.with_suffix(".h").read_text(encoding="utf-8")
        sizes = [re.search(rf"^#define \w+_{name} (\d+)$", header, re.M) for name in _SIZES]
        if None in sizes:
            raise ExportError(f"{source.with_suffix('.h')} does not say the network's sizes; export it again")
        height, width, channels, classes = (int(size[1]) for size in sizes if size)
        kind = "uint8" if facts["input"].startswith("uint8") else "float32"
        program = host.HostProgram(source, source.stem, (height, width, channels), classes, np.dtype(kind).type)

        def bind(batch: NDArray[Any]) -> Callable[[], NDArray[np.float32]]:
            images = host.channels_last(batch)
            return lambda: program.scores(images)

        return Loaded(
            bind,
            np.asarray,
            ((None, *facts["input_size"]),),
            ((None, classes),),
            kind,
            "int8" if facts["precision"] == "int8" else "f32",
            threads=1,
            properties={f"simroot.{key}": json.dumps(value) for key, value in facts.items()},
        )


_SIZES = ("HEIGHT", "WIDTH", "CHANNELS", "CLASSES")
