"""The files of an exported network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.export.c.layers import Image
from simroot.export.c.program import Arithmetic, write_calls
from simroot.export.c.text import functions, identifier, kernel, real, string, table
from simroot.export.description import Description

FRAMES = ("rgb888", "rgb565", "grey", "yuv422")
_GREY = "                    rgb[0] = (19595 * rgb[0] + 38470 * rgb[1] + 7471 * rgb[2] + 32768) >> 16;"


@dataclass(frozen=True)
class Examples:
    """What ``NAME_selftest`` runs.

    Attributes:
        images: (n, H, W, C), as the network takes them.
        scores: float32 (n, classes).
        tolerance: largest difference; 0 where every bit counts.
    """

    images: NDArray[Any]
    scores: NDArray[np.float32]
    tolerance: float


def files(arithmetic: Arithmetic, description: Description, examples: Examples) -> dict[str, str]:
    """File name -> text."""
    write_calls(arithmetic)
    name = identifier(description.model or "network")
    fields = _fields(arithmetic, description, examples, name)
    return {
        f"{name}.c": kernel("network.c", **fields),
        f"{name}.h": kernel("network.h", **{**fields, "prepare": fields["prepare_header"]}),
        f"{name}_test.c": kernel("test.c", **fields),
        "Makefile": kernel("Makefile", **fields),
    }


def _fields(arithmetic: Arithmetic, description: Description, examples: Examples, name: str) -> dict[str, object]:
    program, layers = arithmetic.program, arithmetic.layers
    image, classes = layers[0], layers[-1].size
    assert isinstance(image, Image)
    height, width, channels = image.shape
    names = description.classes or tuple(map(str, range(classes)))
    kernels = "\n".join(program.kernels.values())
    kernels = "\n".join(
        (
            kernel("grid.c", limits=arithmetic.limits),
            *program.prelude,
            functions(arithmetic.functions, kernels),
            kernels,
        )
    )
    calls = "\n".join(program.calls)
    # What is written cuts the middle out of a frame; of a network whose images are fitted otherwise it would be wrong.
    prepared = image.pixels and height == width and channels in (1, 3) and description.fit == "crop"
    common = {
        "name": name,
        "upper": name.upper(),
        "side": height,
        "channels": channels,
        "share": repr(description.crop),
    }
    text = "pixels, 0 to 255" if image.pixels else "float32, normalised as for the network's training"
    tests = (
        table(arithmetic.input_type, f"{name}_test_images", examples.images),
        table("float", f"{name}_test_scores", examples.scores),
    )
    return {
        **common,
        "title": f"{description.model or 'A network'}: {len(names)} classes.".replace("*/", ""),
        "version": description.version,
        "precision": description.precision,
        "height": height,
        "width": width,
        "inputtext": f"Numbers are {text}.",
        "inputsize": image.size,
        "classes": classes,
        "flash": sum(program.flash.values()),
        "arena": arithmetic.schedule.arena,
        "alignment": 4,
        "input": arithmetic.input_type,
        "argument": "pixels" if image.pixels else "input",
        "includes": "#include <math.h>\n" if any(word in kernels for word in ("fabsf", "sqrtf")) else "",
        "kernels": kernels,
        "tables": "\n".join(program.tables),
        "names": "\n".join(f"    {string(one)}," for one in names),
        "arenatype": arithmetic.arena_type,
        "output": arithmetic.output_type,
        "locals": _locals(calls),
        "calls": calls,
        "finish": arithmetic.finish(name),
        "prepare": _prepare(name, common) if prepared else "",
        "prepare_header": kernel("prepare.h", **common, rowsize=height * channels) if prepared else "",
        "tests": "\n".join(tests),
        "count": len(examples.images),
        "origin": ", to the bit" if not examples.tolerance else "",
        "lowest": real(-examples.tolerance),
        "highest": real(examples.tolerance),
    }


def _locals(calls: str) -> str:
    """Variables of loops over rows, and inputs that are not used."""
    found = "    sr_grid window;\n    int row, kept;\n" if "window = " in calls else ""
    return found + ("" if "arena +" in calls else "    (void)arena;\n")


def _prepare(name: str, common: dict[str, object]) -> str:
    grey = _GREY if common["channels"] == 1 else ""
    parts = [kernel("prepare.c", **common, grey=grey)]
    parts += [kernel("prepare_call.c", name=name, kind=kind) for kind in FRAMES]
    return "\n" + "\n".join(parts)
