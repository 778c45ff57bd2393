"""Whether plain values, as YAML and JSON have them, are of annotated types.

A schema is a type: ``int``, ``float``, ``str``, ``bool``, ``None``, ``Any``, ``Path``, unions, ``list[...]``,
``tuple[...]``, ``dict[str, ...]``, ``Literal[...]``, a ``TypedDict``, and any of them with bounds as
``Annotated[int, Range(1, 100)]``.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints, is_typeddict

from simroot.errors import ConfigError, quoted


class Range(NamedTuple):
    """Bounds of a number, both included."""

    low: float
    high: float


class UnknownNameError(ConfigError):
    """A name that the schema does not have."""


# Numbers that are counts: nothing here has more.
Count = Annotated[int, Range(0, 2**53)]
Positive = Annotated[int, Range(1, 2**53)]

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    types.NoneType: "null",
    Path: "a path",
    Any: "anything",
}


def require(value: Any, schema: Any, where: str) -> None:
    """Refuse a value that is not of the schema.

    Args:
        value: of plain values.
        schema: a type, see above.
        where: what to call the value; empty for a whole file, whose parts go by their own names.

    Raises:
        UnknownNameError: if a TypedDict has no such name.
        ConfigError: for any other fault; both say what was received where, and what was expected.
    """
    kind, arguments = get_origin(schema), get_args(schema)
    if kind is Annotated:
        require(value, arguments[0], where)
        low, high = arguments[1]
        if isinstance(value, int | float) and not low <= value <= high:
            raise _unexpected(value, f"{describe(arguments[0])} from {low:,} to {high:,}", where)
    elif kind in (types.UnionType, Union):
        _require_one_of(value, arguments, where)
    elif kind is Literal:
        if not any(value == known and type(value) is type(known) for known in arguments):
            raise _unexpected(value, describe(schema), where)
    elif kind in (list, tuple):
        _require_list(value, kind, arguments, where)
    elif kind in (dict, Mapping) or schema is dict:
        _require_names(value, where)
        for name, item in value.items():
            require(item, arguments[1] if arguments else Any, _inside(where, name))
    elif is_typeddict(schema):
        _require_record(value, schema, where)
    elif not _is_a(value, schema):
        raise _unexpected(value, describe(schema), where)


def describe(schema: Any) -> str:
    """What people call the values of a schema."""
    kind, arguments = get_origin(schema), get_args(schema)
    if kind is Annotated:
        return describe(arguments[0])
    if kind in (types.UnionType, Union):
        return " or ".join(dict.fromkeys(map(describe, arguments)))
    if kind is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if kind in (list, tuple):
        return "a list"
    return _WORDS.get(schema, "names and values")


def _is_a(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if kind is float:
        return _is_a(value, int) or (isinstance(value, float) and math.isfinite(value))
    if kind is int and isinstance(value, int):
        return not isinstance(value, bool) and -(2**63) <= value < 2**63
    return isinstance(value, str if kind is Path else kind)


def _require_one_of(value: Any, schemas: tuple[Any, ...], where: str) -> None:
    """A fault inside one of them is told rather than that none fits, where the value is of its kind."""
    faults: list[tuple[Any, ConfigError]] = []
    for schema in schemas:
        try:
            return require(value, schema, where)
        except ConfigError as error:
            faults.append((schema, error))
    kinds = {dict: "names and values", list: "a list", int: "a whole number"}
    for schema, fault in faults:
        if describe(schema) == kinds.get(type(value)):
            raise fault
    raise _unexpected(value, " or ".join(dict.fromkeys(map(describe, schemas))), where)


def _require_list(value: Any, kind: Any, arguments: tuple[Any, ...], where: str) -> None:
    if not isinstance(value, list | tuple):
        raise _unexpected(value, "a list", where)
    fixed = kind is tuple and arguments[-1] is not Ellipsis
    if fixed and len(value) != len(arguments):
        raise _unexpected(value, f"a list of {len(arguments)}", where)
    for number, item in enumerate(value):
        require(item, arguments[number if fixed else 0], f"{where}[{number}]")


def _require_record(value: Any, schema: Any, where: str) -> None:
    _require_names(value, where)
    hints = get_type_hints(schema, include_extras=True)
    if unknown := sorted(value.keys() - hints.keys()):
        raise UnknownNameError(f"{where or 'it'} has no {quoted(unknown[0])}; known are {', '.join(hints)}")
    if missing := sorted(schema.__required_keys__ - value.keys()):
        raise ConfigError(f"{where or 'it'} lacks {', '.join(missing)}")
    for name, item in value.items():
        require(item, hints[name], _inside(where, name))


def _require_names(value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise _unexpected(value, "names and values", where)
    if wrong := [name for name in value if not isinstance(name, str)]:
        raise ConfigError(f"{where or 'it'} has the name {quoted(wrong[0])}; expected words")


def _inside(where: str, name: str) -> str:
    return f"{where}.{quoted(name)[1:-1]}".removeprefix(".")


def _unexpected(value: Any, expected: str, where: str) -> ConfigError:
    return ConfigError(f"{where or 'it'} is {quoted(value)}; expected {expected}")
