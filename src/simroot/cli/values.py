"""From the words of a command line to values: shapes, overrides of a network, fields of the recipe."""

from __future__ import annotations

import argparse
import json
import math
import re
import types
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal, get_args, get_origin

from simroot.errors import DataError, quoted
from simroot.images.preparation import ImageSize, as_background, as_image_size, as_pixel_range

_DIGITS = 18
_DEVICE_DIGITS = 4
_UNITS = {"": 1, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}

_WORDS: dict[type, dict[str, bool | None]] = {
    bool: {"true": True, "false": False},
    type(None): {"none": None, "null": None},
}

# Values of overrides that JSON does not have.
_NOT_JSON = {"True": True, "False": False, "None": None, "inf": math.inf, "-inf": -math.inf}

# Arguments of every network that are no overrides, and the option that sets them.
NO_OVERRIDES = {"num_classes": "--num-classes", "in_channels": "--input-size"}


def image_shape(text: str) -> tuple[int, int, int]:
    """Read ``3,32,32`` (channels, height, width)."""
    try:
        channels, height, width = (positive(part) for part in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is no shape; expected channels,height,width, as in 3,32,32"
        ) from None
    return channels, height, width


def image_size(text: str) -> ImageSize:
    """Read ``32``, the side of a square, or ``24,96``, height and width."""
    sizes = [positive(part) for part in text.split(",")]
    if len(sizes) > 2:
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is no image size; expected 32, or height and width as in 24,96"
        )
    return as_image_size((sizes[0], sizes[-1]))


def pixel_range(text: str) -> str | tuple[float, float]:
    """Read ``auto``, ``full`` or the two grey values that become black and white."""
    if text in ("auto", "full"):
        return text
    try:
        low, high = map(float, text.split(","))
        return as_pixel_range((low, high)) or text
    except (ValueError, DataError):
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is no pixel range; expected auto, full or two numbers, the lower one first, as in 0,4095"
        ) from None


def background(text: str) -> str | tuple[int, int, int]:
    """Read ``auto``, ``white``, ``black`` or red, green and blue."""
    try:
        parts = tuple(map(int, text.split(",")))
    except ValueError:
        parts = ()
    try:
        return text if text == "auto" else as_background(parts or text)
    except DataError:
        raise argparse.ArgumentTypeError(
            f"{quoted(text)} is no background; expected auto, white, black or three numbers of 0 to 255, as in 0,9,255"
        ) from None


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not _is_whole(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no whole number of at least 1")
    return int(text)


def _is_whole(text: str) -> bool:
    """Also short enough for an integer of 64 bits: nothing here is larger."""
    return text.strip().isdecimal() and len(text.strip()) <= _DIGITS


def devices(text: str) -> str:
    """Read how many devices, which of them (``0,1``) or ``auto``."""
    if any(len(part) > _DEVICE_DIGITS for part in re.findall(r"\d+", text)):
        raise argparse.ArgumentTypeError(f"{quoted(text)} are more devices than there are; expected a number or auto")
    return text


def seed(text: str) -> int:
    """Read the seed of a generator."""
    if not _is_whole(text) or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no whole number from 0 to 2^32 - 1")
    return int(text)


def quantity(text: str) -> int:
    """Read a whole number of at least 1 as ``20000``, ``20K``, ``3.5M`` or ``1G``."""
    match = re.fullmatch(rf"(\d{{1,{_DIGITS}}}(?:\.\d{{1,9}})?)([KMG]?)", text.strip(), re.IGNORECASE)
    number = Decimal(match[1]) * _UNITS[match[2].upper()] if match else Decimal(0)
    if number < 1 or number % 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no whole number of at least 1, as in 20000, 20K or 3.5M")
    return int(number)


def memory(text: str) -> int:
    """Read bytes of memory, at least 1, as ``32768``, ``32K`` or ``32KiB``, ``1M``: K is 1,024, as chips have it."""
    match = re.fullmatch(rf"(\d{{1,{_DIGITS}}}(?:\.\d{{1,9}})?)(?:([KM]?)(?:i?B)?)", text.strip(), re.IGNORECASE)
    number = Decimal(match[1]) * {"": 1, "K": 1024, "M": 1024**2}[match[2].upper()] if match else Decimal(0)
    if number < 1 or number % 1:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no number of bytes, as in 32768, 32K or 1M")
    return int(number)


def share_or_count(text: str) -> float | int:
    """Read a share of a whole, between 0 and 1, or a whole number of at least 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf") or (number >= 1 and number % 1):
        shown = quoted(text)
        raise argparse.ArgumentTypeError(f"{shown} is no share between 0 and 1 and no whole number of at least 1")
    return number if number < 1 else int(number)


def positives(text: str) -> list[int]:
    """Read whole numbers of at least 1, separated by commas."""
    return [positive(part) for part in text.split(",")]


def positive_number(text: str) -> float:
    """Read a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no number above 0")
    return number


def override(text: str) -> tuple[str, Any]:
    """Read ``key=value``; the value is JSON (number, true, null, list), ``True``, ``None``, ``inf``, or else a word."""
    key, equals, value = text.partition("=")
    if not (key.isidentifier() and equals):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no override; expected KEY=VALUE, as in channels=100")
    if key in NO_OVERRIDES:
        raise argparse.ArgumentTypeError(
            f"{key} is no override: it comes from the images, or from {NO_OVERRIDES[key]} where a command has it"
        )
    if value in _NOT_JSON:
        return key, _NOT_JSON[value]
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
    except RecursionError:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is nested too deeply") from None


def add_model_overrides(parser: argparse._ActionsContainer) -> None:
    """Declare ``--set``, the overrides that ``create_model`` takes, as a list of pairs."""
    parser.add_argument(
        "--set",
        type=override,
        action="append",
        metavar="KEY=VALUE",
        help="override an argument of the network, as in --set channels=100; may be repeated "
        "('simroot models --json' lists each network's)",
    )


def reader(hint: Any) -> Callable[[str], Any]:
    """The function that reads a word as a value of an annotated type.

    Understands int, float, str, bool, literal words, their unions with None, and tuples of them (separated by commas).
    """
    options = get_args(hint) if get_origin(hint) is types.UnionType else (hint,)

    def read(text: str) -> Any:
        for option in options:
            try:
                return _read(option, text)
            except ValueError:
                continue
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not {' or '.join(map(describe, options))}")

    return read


def describe(hint: Any) -> str:
    """What people call the values of a type."""
    if get_origin(hint) is tuple:
        return "a list, as in 0.5,0.8"
    return {int: "a whole number", float: "a number", str: "a word", bool: "true or false", type(None): "none"}[hint]


def _read(hint: Any, text: str) -> Any:
    if get_origin(hint) is Literal:
        return text  # whoever gets it says what is known
    if get_origin(hint) is tuple:
        return tuple(_read(get_args(hint)[0], part) for part in text.split(",") if part)
    if hint in _WORDS:
        if text not in _WORDS[hint]:
            raise ValueError(text)
        return _WORDS[hint][text]
    return hint(text)
