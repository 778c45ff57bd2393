"""Values against types."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest

from simroot.errors import ConfigError
from simroot.untrusted.schema import Positive, Range, UnknownNameError, require


class _Needed(TypedDict):
    name: str
    sizes: list[int]


class Record(_Needed, total=False):
    share: float | None
    way: Literal["a", "b"]
    inner: dict[str, Any] | None


GOOD: dict[str, Any] = {"name": "x", "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (3, int),
        (3, float),
        (None, float | None),
        ("x", str | Path),
        ("x", Path | None),
        ([1, 2.5], list[float]),
        ([1, "a"], tuple[int, str]),
        ([1, 2, 3], tuple[int, ...]),
        ({"a": [1]}, dict[str, list[int]]),
        ({"a": [1]}, dict),
        (5, Annotated[int, Range(1, 5)]),
        (GOOD, Record),
        ({**GOOD, "share": None, "way": "b", "inner": {"x": 1}}, Record),
    ],
)
def test_what_fits(value: object, schema: object) -> None:
    require(value, schema, "it")


@pytest.mark.parametrize(
    ("value", "schema", "message"),
    [
        (True, int, "it is True; expected a whole number"),
        (True, float, "expected a number"),
        (2**63, int, "expected a whole number"),
        (float("nan"), float, "it is nan; expected a number"),
        (10**400, float, "expected a number"),
        (1, bool, "expected true or false"),
        (1, str | None, "it is 1; expected text or null"),
        ("x", list[int], "expected a list"),
        ([1, "x"], list[int], r"it\[1\] is 'x'; expected a whole number"),
        ([1], tuple[int, int], "expected a list of 2"),
        ({1: 2}, dict, "it has the name 1; expected words"),
        ([], dict[str, int], r"it is \[\]; expected names and values"),
        ({"a": "b"}, dict[str, int], r"it\.a is 'b'; expected a whole number"),
        ({"a": "b"}, dict[str, int] | None, r"it\.a is 'b'; expected a whole number"),
        (0, Positive, "it is 0; expected a whole number from 1 to"),
        ([0], Positive, "expected a whole number"),
        (2, Literal["a", "b"], "expected one of a, b"),
        ({"name": "x"}, Record, "it lacks sizes"),
        ({**GOOD, "way": "c"}, Record, r"it\.way is 'c'; expected one of a, b"),
        ({**GOOD, "sizes": None}, Record, r"it\.sizes is None; expected a list"),
        ("\x1b" * 9999, int, r"it is '\\x1b"),
    ],
)
def test_what_does_not(value: object, schema: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        require(value, schema, "it")
    assert not isinstance(caught.value, UnknownNameError)
    assert len(str(caught.value)) < 250


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="it has no 'colour'; known are name, sizes, share, way, inner"):
        require({**GOOD, "colour": 1}, Record, "it")
