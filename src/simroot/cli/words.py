"""The words of a command line in messages: which option was meant, and options in the place of Python's arguments."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simroot.errors import nearest, one_line, quoted

_SHOWN = 300


def unknown_words(words: Sequence[str], options: Iterable[str]) -> str:
    """What to say of words that a command does not know: for each wrong option the one that was meant.

    Args:
        words: what is left over, values of wrong options included.
        options: those of the command, as in ``--recipe.epochs``.
    """
    wrong = [word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)]
    if not wrong:
        return f"unknown arguments: {one_line(' '.join(words), _SHOWN)}"
    known = list(options)
    return "; ".join(f"unknown option {one_line(word, 80)}{_meant(word, known)}" for word in dict.fromkeys(wrong))


def nearest_command(word: str, commands: Iterable[str]) -> str:
    """What to say of a command that there is not."""
    return f"unknown command {quoted(word)}; {nearest(word, commands, most=1)}"


def _meant(word: str, options: Sequence[str]) -> str:
    likeness = {option: _likeness(_bare(word), _bare(option)) for option in options}
    best = max(likeness.values(), default=0.0)
    close = [option for option, value in likeness.items() if value == best]
    return f"; did you mean {' or '.join(close)}?" if best >= 0.6 else ""


def _bare(option: str) -> str:
    return option.lstrip("-").replace("-", "_").lower()


def _likeness(word: str, option: str) -> float:
    """From 0 to 1: of whole options, and of their last parts, as in ``epochs`` for ``recipe.epochs``."""
    wanted, last = word.rpartition(".")[2], option.rpartition(".")[2]
    if len(wanted) > 1 and wanted == "".join(part[:1] for part in last.split("_")):
        return 1.0  # lr, wd
    whole = difflib.SequenceMatcher(None, word, option).ratio()
    return max(whole, difflib.SequenceMatcher(None, wanted, last).ratio() - 0.01)


def in_options(message: str, options: Mapping[str, str], overrides: Mapping[str, Any]) -> str:
    """A library's message about an argument, with the option that sets it in the argument's place.

    Args:
        message: as Python's callers read it, such as "image_size of simnet3 is 4; …" or "recipe field epochs is 0; …".
        options: of the command, by the names of the arguments that they set.
        overrides: the network's arguments that were given with ``--set``.
    """

    def option(name: str) -> str | None:
        given = f"--set {name}" if name in overrides else None
        return given or options.get(name) or options.get(f"recipe.{name}")

    message = re.sub(r"\brecipe field (\w+)", lambda m: options.get(f"recipe.{m[1]}", m[0]), message)
    # The first word is what the message is about; of others, only those that are no English are arguments.
    message = re.sub(r"^(\w+)(?=( of [\w:]+)? is )", lambda m: option(m[1]) or m[0], message)
    return re.sub(r"(?<![\w./'\"\-])([a-z]+(?:_[a-z]+)+)(?![\w./'\"\-(])", lambda m: option(m[1]) or m[0], message)


def long_options(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Name of the argument -> the option that sets it, of all options of a command."""
    return {
        action.dest: action.option_strings[0]
        for action in parser._actions
        if action.option_strings and action.dest is not argparse.SUPPRESS
    }
