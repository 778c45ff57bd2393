"""Text from outside in messages: cut, on one line, without control characters."""

import logging
from pathlib import Path

import pytest

from simroot.errors import LineFormatter, SimrootError, counted, one_line, printable, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 日本 🙂 a\\n", "Zoë 日本 🙂 a\\n"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\nb\r\x85\u2028\u202e\udcff", "a\\nb\\r\\x85\\u2028\\u202e\\udcff"),
    ],
)
def test_control_characters_become_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown


def test_a_message_is_one_line_of_bounded_length() -> None:
    message = str(SimrootError("start\n" + "\x1b" * 10**6 + "end"))
    assert message.startswith("start\\n")
    assert message.endswith("end")
    assert len(message) == 1000
    assert str(SimrootError(message)) == message


def deep() -> list[object]:
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


class Rude:
    def __repr__(self) -> str:
        raise AssertionError("nobody asked")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a\x1b", "'a\\x1b'"),
        (Path("x"), "'x'"),
        (None, "None"),
        (True, "True"),
        (2.5, "2.5"),
        ([1, "2", {"a": None}], "[1, '2', {'a': None}]"),
        (list(range(9)), "[0, 1, 2, 3, ...]"),
        (10**5000, "<int of 16610 bits>"),
        (deep(), "[[[[...]]]]"),
        (Rude(), "<Rude>"),
        ([Rude()], "[<Rude>]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(value: object, shown: str) -> None:
    assert quoted(value) == shown


def test_long_values_are_cut() -> None:
    assert len(quoted("x" * 5000)) <= 100
    assert len(quoted(["x" * 5000] * 1000)) <= 100


def test_lines_of_the_log() -> None:
    record = logging.makeLogRecord({"msg": "%s skipped", "args": ("a\x1b[2J\n.png",)})
    assert LineFormatter().format(record) == "a\\x1b[2J\\n.png skipped"
    assert one_line("x" * 300, 100) == f"{'x' * 65}...{'x' * 32}"


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (1, ("image",), "1 image"),
        (0, ("image",), "0 images"),
        (1315, ("training image",), "1,315 training images"),
        (1, ("class", "classes"), "1 class"),
        (2, ("class", "classes"), "2 classes"),
    ],
)
def test_what_is_counted_has_its_number(number: int, words: tuple[str, ...], text: str) -> None:
    assert counted(number, *words) == text
