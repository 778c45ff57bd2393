"""Small text files from anywhere, YAML and JSON: a regular file of bounded size, depth and number of values.

What comes out is made of None, bool, int, float, str, list and dict alone, and no larger than it looks.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simroot.errors import ConfigError, one_line, quoted

_LARGEST = {"YAML": 4 << 20, "JSON": 64 << 20}  # bytes
# Values, an alias counted as what it stands for. PyYAML takes 50 microseconds for each, without libyaml 400.
_MOST = {"YAML": 100_000, "JSON": 4_000_000}
_DEEPEST = 30
_PLAIN = (type(None), bool, int, float, str)

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
# YAML 1.1, which PyYAML reads, takes 1e-3 for a word; 1.0e-3 is a number.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def require_regular(path: Path, largest: int | None = None) -> None:
    """Refuse what is no regular file: reading a pipe would wait, reading a device might never end.

    Args:
        path: of a file; links are followed.
        largest: number of bytes; None for any.

    Raises:
        ConfigError: saying what it is, or how large.
        OSError: if there is nothing.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe or device"
        raise ConfigError(f"{path} is a {kind}; expected a file")
    if largest is not None and status.st_size > largest:
        raise ConfigError(f"{path} has {status.st_size:,} bytes; expected at most {largest:,}")


def read_yaml(path: Path) -> Any:
    """What a YAML file holds.

    Raises:
        ConfigError: if it is no YAML of plain values within the bounds.
        OSError: if it cannot be read.
    """
    import yaml

    text = _text(path, "YAML")
    # The fast loader refuses the halves of characters that stand for bytes in names of files that are no UTF-8.
    fast = None if _HALF.search(text) else getattr(yaml, "CSafeLoader", None)
    loader = fast or yaml.SafeLoader
    try:
        _require_bounded(yaml.parse(text, Loader=loader), _MOST["YAML"] if fast else _MOST["YAML"] // 5)
        value = yaml.load(text, Loader=loader)
        _require_plain(value, _MOST["YAML"])
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{path} is no YAML: {_reason(error)}") from error
    return value


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ConfigError: if it is no JSON within the bounds.
        OSError: if it cannot be read.
    """
    text = _text(path, "JSON")
    try:
        value = json.loads(text)
        _require_plain(value, _MOST["JSON"])
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON: {_reason(error)}") from error
    return value


def write_yaml(value: Any) -> str:
    """Plain values as the text of a YAML file, from which ``read_yaml`` makes the same values.

    Raises:
        yaml.YAMLError: if a value is not plain.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes texts with control characters in quotes: elsewhere, some of them would be ends of lines."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if value.isprintable() else '"')

    Dumper.add_representer(str, text)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def with_numbers(value: Any) -> Any:
    """The value with numbers for words such as 1e-3, which YAML 1.1 does not take for numbers."""
    if isinstance(value, dict):
        return {key: with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _text(path: Path, kind: str) -> str:
    require_regular(path, _LARGEST[kind])
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no {kind}: it is not written in UTF-8") from error


def _reason(error: Exception) -> str:
    return (
        "it is nested too deeply" if isinstance(error, RecursionError) else one_line(" ".join(str(error).split()), 300)
    )


def _require_bounded(events: Iterator[Any], most: int) -> None:
    """Count values before any is made, an alias as what it stands for: a few lines of them can stand for billions."""
    import yaml

    total = 0
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # anchors of the collections around, with the total at their start
    for event in events:
        if getattr(event, "tag", None) is not None:
            raise ValueError(f"it has the tag {quoted(event.tag)}; expected plain values")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"the alias *{event.anchor} stands for nothing, or for what it is part of")
            total += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = open_.pop()
            if anchor is not None:
                sizes[anchor] = total - start + 1
        elif isinstance(event, yaml.NodeEvent):
            total += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_.append((event.anchor, total))
            elif event.anchor is not None:
                sizes[event.anchor] = 1
        if total > most:
            raise ValueError(f"it has more than {most:,} values")
        if len(open_) > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")


def _require_plain(value: Any, most: int) -> None:
    level, depth, total = [value], 0, 0
    while level:
        depth, total = depth + 1, total + len(level)
        if depth > _DEEPEST + 1:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")
        if total > most:
            raise ValueError(f"it has more than {most:,} values")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.keys()
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif not isinstance(item, _PLAIN):
                raise ValueError(f"it holds a {type(item).__name__}; expected numbers, texts, lists and names")
        level = inner
