"""The files of an exported network."""

from __future__ import annotations

import re
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.export.c.calls import write_calls
from simroot.export.c.layers import Conv, Image, Layer, Lp, Pool
from simroot.export.c.program import Arithmetic, Program
from simroot.export.c.text import functions, identifier, kernel, real, string, table
from simroot.export.description import Description

FRAMES = ("rgb888", "rgb565", "grey", "yuv422")
_LUMA = (19595, 38470, 7471)
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
            kernel("grid.c", limits=arithmetic.limits, size=_size(layers)),
            *program.prelude,
            functions(arithmetic.functions, kernels),
            kernels,
        )
    )
    calls = "\n".join(program.calls)
    prepared = image.pixels and channels in (1, 3)
    common = {"name": name, "upper": name.upper(), "height": height, "width": width, "channels": channels}
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
        "inputtext": f"Numbers are {text}.",
        "inputsize": image.size,
        "classes": classes,
        "flash": sum(program.flash.values()),
        "arena": arithmetic.schedule.arena,
        "alignment": 4,
        "input": arithmetic.input_type,
        "argument": "pixels" if image.pixels else "input",
        "includes": "#include <math.h>\n" if any(word in kernels for word in ("fabsf", "sqrtf")) else "",
        "kernels": _with_ones(kernels, layers),
        "tables": "\n".join([*_room(program), *program.tables]),
        "names": "\n".join(f"    {string(one)}," for one in names),
        **_thresholds(name, description),
        "arenatype": arithmetic.arena_type,
        "output": arithmetic.output_type,
        "locals": "" if "arena +" in calls else "    (void)arena;\n",
        "calls": calls,
        "finish": arithmetic.finish(name),
        "prepare": _prepare(name, common, description) if prepared else "",
        "prepare_header": _prepare_header(common, description) if prepared else "",
        "tests": "\n".join(tests),
        "count": len(examples.images),
        "origin": ", to the bit" if not examples.tolerance else "",
        "lowest": real(-examples.tolerance),
        "highest": real(examples.tolerance),
    }


def _room(program: Program) -> list[str]:
    """What constants are brought to that are no tables; several may be read where the last one is."""
    if not program.numbers:
        return []
    return [f"static float {program.prefix}_numbers[{sum(one.size for one in program.numbers)} + 8];\n"]


def _with_ones(kernels: str, layers: list[Layer]) -> str:
    """Kernels in which what is 1 in all layers is written so: compilers leave out what it would take."""
    windows = [layer.window for layer in layers if isinstance(layer, Conv | Lp | Pool)]
    grouped = [layer for layer in layers if isinstance(layer, Conv | Lp) and layer.groups > 1]
    if all(window.dilation == (1, 1) for window in windows):
        kernels = re.sub(r"\bg->apart_[xy]\b", "1", kernels)
    if all(isinstance(layer, Conv) and layer.depthwise and layer.centre is None for layer in grouped):
        kernels = re.sub(r"\bg->groups\b", "1", kernels)
    return kernels


def _size(layers: list[Layer]) -> str:
    """C's type of sizes in pixels and channels where size counts: each layer has a dozen of them."""
    windows = [astuple(layer.window) for layer in layers if isinstance(layer, Conv | Lp | Pool)]
    largest = max(max(layer.shape) for layer in layers), max((max(map(max, one)) for one in windows), default=0)
    return "int16_t" if max(largest) < 2**15 else "int"


_THRESHOLDS = """
/* An image has the class of a score that reaches its threshold; 1 / (1 + exp(-score)) is the probability. */
extern const float {name}_thresholds[{upper}_CLASSES];
"""


def _thresholds(name: str, description: Description) -> dict[str, str]:
    """What is said of scores, and where images may have any number of classes from which score on they have one."""
    if description.thresholds is None:
        return {"thresholds": "", "thresholds_header": "", "mostlikely": "", "squashed": "softmax"}
    shares = np.array(description.thresholds)
    with np.errstate(divide="ignore"):  # a score beyond all others
        scores = np.log(shares) - np.log1p(-shares)
    written = ", ".join(map(real, np.nan_to_num(scores)))
    return {
        "thresholds": f"\nconst float {name}_thresholds[{name.upper()}_CLASSES] = {{{written}}};\n",
        "thresholds_header": _THRESHOLDS.format(name=name, upper=name.upper()),
        "mostlikely": "likeliest ",
        "squashed": "sigmoid",
    }


def _prepare(name: str, common: dict[str, Any], description: Description) -> str:
    grey = common["channels"] == 1
    colour = description.background
    luma = sum(part * share for part, share in zip(colour, _LUMA, strict=True)) + 2**15 >> 16
    fields = {
        **common,
        "grey": _GREY if grey else "",
        "crop": int(description.fit == "crop"),
        "pad": int(description.fit == "pad"),
        "share": repr(float(description.crop)),
        "background": ", ".join(map(str, [luma] if grey else colour)),
    }
    parts = [kernel("prepare.c", **fields)]
    parts += [kernel("prepare_call.c", name=name, kind=kind) for kind in FRAMES]
    return "\n" + "\n".join(parts)


def _prepare_header(common: dict[str, Any], description: Description) -> str:
    share = f", {description.crop:.4g} of its width and height" if description.crop != 1 else ""
    seen = {
        "crop": "the largest part in the middle that has the network's shape",
        "pad": "the whole frame, with background on two sides",
        "stretch": "the whole frame, distorted to the network's shape",
    }
    return kernel(
        "prepare.h", **common, seen=seen[description.fit] + share, room=common["width"] * (common["channels"] + 7)
    )
