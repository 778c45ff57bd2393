"""``simroot --print-completion SHELL``: what a shell must know to complete commands and options, by shtab."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import Any

SHELLS = ("bash", "zsh", "tcsh")


def add_completion(parser: argparse.ArgumentParser, whole: Callable[[], argparse.ArgumentParser]) -> None:
    """Declare ``--print-completion``.

    Args:
        parser: of the program.
        whole: gives the program's parser with the options of all commands.
    """

    class Print(argparse.Action):
        def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option: Any = None) -> None:
            try:
                shtab = importlib.import_module("shtab")
            except ImportError:
                parser.error(
                    "--print-completion needs shtab, which is not installed; pip install 'simroot[completion]'"
                )
            print(shtab.complete(whole(), shell=values))
            parser.exit()

    parser.add_argument(
        "--print-completion",
        action=Print,
        choices=SHELLS,
        default=argparse.SUPPRESS,
        help="print what a shell needs to complete commands",
    )
