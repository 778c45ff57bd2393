"""From words to values."""

import argparse
import math
from typing import Any

import pytest

from simroot.cli.values import (
    image_shape,
    memory,
    override,
    positive,
    positive_number,
    positives,
    quantity,
    reader,
    seed,
)


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int, "12", 12),
        (float, "1e-4", 1e-4),
        (str, "32", "32"),
        (bool, "true", True),
        (bool, "false", False),
        (int | None, "none", None),
        (int | None, "null", None),
        (int | None, "4", 4),
        (bool | None, "false", False),
        (tuple[float, ...], "0.5,0.8", (0.5, 0.8)),
        (tuple[float, ...], "", ()),
    ],
)
def test_reader(hint: Any, text: str, value: Any) -> None:
    found = reader(hint)(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("hint", "text", "expected"),
    [
        (int, "1.5", "a whole number"),
        (float | None, "much", "a number or none"),
        (bool, "maybe", "true or false"),
        (tuple[float, ...], "0.5;0.8", "a list, as in 0.5,0.8"),
    ],
)
def test_reader_says_what_it_expected(hint: Any, text: str, expected: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not {expected}$"):
        reader(hint)(text)


def test_image_shape() -> None:
    assert image_shape("3,32,30") == (3, 32, 30)
    for wrong in ("3x32x32", "3,32", "3,32,0", "", "3,32,-2"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected channels,height,width"):
            image_shape(wrong)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("20000", 20_000), ("20K", 20_000), ("0.5k", 500), ("2.3M", 2_300_000), ("1.001g", 1_001_000_000)],
)
def test_quantity(text: str, value: int) -> None:
    found = quantity(text)
    assert (found, type(found)) == (value, int)


@pytest.mark.parametrize("text", ["", "K", "0", "0.5", "-3K", "1.0005K", "nan", "infM", "3 M", "1e3", "20KB"])
def test_no_quantity(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no whole number of at least 1, as in 20000"):
        quantity(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("32768", 32768), ("32K", 32768), ("32kB", 32768), ("32KiB", 32768), ("0.5M", 524288), ("7B", 7)],
)
def test_memory(text: str, value: int) -> None:
    assert memory(text) == value


@pytest.mark.parametrize("text", ["", "K", "0", "-1K", "1.0001K", "1G", "nan", "3 K"])
def test_no_memory(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is no number of bytes, as in 32768, 32K or 1M"):
        memory(text)


def test_positives() -> None:
    assert positives("1") == [1]
    assert positives("1,64") == [1, 64]
    for wrong in ("", "1,", "1,0", "a"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no whole number"):
            positives(wrong)


def test_positive_number() -> None:
    assert positive_number("0.5") == 0.5
    for wrong in ("0", "-1", "inf", "nan", "fast"):
        with pytest.raises(argparse.ArgumentTypeError, match="is no number above 0"):
            positive_number(wrong)


def test_seed() -> None:
    assert (seed("0"), seed("4294967295")) == (0, 2**32 - 1)
    for wrong in ("-1", "4294967296", "1.0", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=r"from 0 to 2\^32 - 1"):
            seed(wrong)


def test_positive() -> None:
    assert positive("7") == 7
    for wrong in ("0", "-1", "1.0", "x", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="whole number of at least 1"):
            positive(wrong)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("channels=100", ("channels", 100)),
        ("order=1.5", ("order", 1.5)),
        ("learned=true", ("learned", True)),
        ("bias=null", ("bias", None)),
        ("learned=True", ("learned", True)),
        ("learned=False", ("learned", False)),
        ("bias=None", ("bias", None)),
        ("widths=[8, 16]", ("widths", [8, 16])),
        ("order=learned", ("order", "learned")),
        ("pool_beta=inf", ("pool_beta", math.inf)),
        ("pool_beta=-inf", ("pool_beta", -math.inf)),
        ("name=a=b", ("name", "a=b")),
    ],
)
def test_override(text: str, pair: tuple[str, Any]) -> None:
    assert override(text) == pair
    assert type(override(text)[1]) is type(pair[1])


@pytest.mark.parametrize(("key", "option"), [("num_classes", "--num-classes"), ("in_channels", "--input-size")])
def test_what_is_no_override(key: str, option: str) -> None:
    with pytest.raises(
        argparse.ArgumentTypeError, match=f"{key} is no override: it comes from the images, or from {option}"
    ):
        override(f"{key}=5")


@pytest.mark.parametrize("text", ["channels", "=3", "two words=3", ""])
def test_override_needs_a_key(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected KEY=VALUE"):
        override(text)
