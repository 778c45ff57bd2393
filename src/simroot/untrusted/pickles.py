"""Pickles of plain values and arrays, read without Python's own unpickler, which a file can make do anything.

A pickle is a program for a small machine with a stack. This one knows the steps that plain values need, and calls
nothing but the constructors that it is given. Values come out as they are written: nothing is hashed but words and
numbers, nothing is allocated that is not in the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from simroot.errors import quoted

_MOST = 5_000_000  # steps

_VALUES = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class ForeignObjectError(ValueError):
    """The pickle asks for something else than plain values and the constructors; ``name`` says for what."""

    def __init__(self, name: str) -> None:
        super().__init__(f"it holds {quoted(name)[1:-1]}, which is not an array")
        self.name = name


def read_pickle(content: bytes, constructors: Mapping[str, Any], persistent: Callable[[Any], Any] | None = None) -> Any:
    """The value that a pickle stands for.

    Args:
        content: the pickle; strings of Python 2 are read as Latin-1.
        constructors: what the names stand for that it may use, as in ``"numpy dtype"``: a function of plain values, or
            a value. What a function returns may have ``set_state(state)``, for pickles that complete it later.
        persistent: what stands for a persistent identifier.

    Raises:
        ForeignObjectError: if it uses another name.
        ValueError: if it is damaged, or no such pickle.
    """
    machine = _Machine(constructors, persistent)
    try:
        for number, (code, argument, _) in enumerate(pickletools.genops(content)):
            if number > _MOST:
                raise ValueError(f"it takes more than {_MOST:,} steps")
            if code.name == "STOP":
                return machine.stack.pop()
            machine.step(code.name, argument)
    except ForeignObjectError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"it is no pickle of plain values: {type(error).__name__}: {error}") from error
    raise ValueError("it has no end")


class _Machine:
    """The stack, the memo, and what each step does to them."""

    def __init__(self, constructors: Mapping[str, Any], persistent: Callable[[Any], Any] | None) -> None:
        self.constructors, self.persistent = constructors, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Do one step."""
        stack = self.stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            stack.append(tuple(self._last(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[int(argument)])
        elif name not in ("PROTO", "FRAME"):
            getattr(self, f"_{name.lower()}", self._unknown)(argument)

    def _last(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise ValueError("the stack is empty")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def _marked(self) -> list[Any]:
        return self._last(len(self.stack) - self.marks.pop())

    def _unknown(self, argument: Any) -> None:
        raise ValueError("it has a step that plain values do not need")

    def _mark(self, argument: Any) -> None:
        self.marks.append(len(self.stack))

    def _pop(self, argument: Any) -> None:
        self._last(1)

    def _tuple(self, argument: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def _list(self, argument: Any) -> None:
        self.stack.append(self._marked())

    def _dict(self, argument: Any) -> None:
        values = self._marked()
        self.stack.append({})
        self._set(values)

    def _append(self, argument: Any) -> None:
        self._extend(self._last(1))

    def _appends(self, argument: Any) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise TypeError("values are appended to what is no list")
        self.stack[-1].extend(values)

    def _setitem(self, argument: Any) -> None:
        self._set(self._last(2))

    def _setitems(self, argument: Any) -> None:
        self._set(self._marked())

    def _set(self, values: list[Any]) -> None:
        target, keys = self.stack[-1], values[::2]
        if not isinstance(target, dict) or not all(isinstance(key, str | int) for key in keys):
            raise TypeError("names and values are no words and their values")
        target.update(zip(keys, values[1::2], strict=True))

    def _global(self, argument: str) -> None:
        if argument not in self.constructors:
            raise ForeignObjectError(argument.replace(" ", "."))
        self.stack.append(self.constructors[argument])

    def _stack_global(self, argument: Any) -> None:
        module, name = self._last(2)
        self._global(f"{module} {name}" if isinstance(module, str) and isinstance(name, str) else "?")

    def _reduce(self, argument: Any) -> None:
        function, arguments = self._last(2)
        if not isinstance(arguments, tuple):  # only constructors can be called: the other values are plain
            raise TypeError("a constructor is called without arguments")
        self.stack.append(function(*arguments))

    def _build(self, argument: Any) -> None:
        (state,) = self._last(1)
        if not isinstance(self.stack[-1], dict):  # attributes of a dictionary say nothing about what it holds
            self.stack[-1].set_state(state)

    def _binpersid(self, argument: Any) -> None:
        (identifier,) = self._last(1)
        if self.persistent is None:
            raise ValueError("it refers to other files")
        self.stack.append(self.persistent(identifier))
