"""Packages that import a name when it is first used: what a command does not need, it does not wait for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any


def serve(package: str, **modules: Sequence[str]) -> None:
    """Let a package import each of its public names from one of its modules when the name is first asked for.

    No name may be that of a module in the package: which of the two it is would depend on what was imported before.

    Args:
        package: the package's ``__name__``, which is being imported.
        **modules: of the package, each with the names that it defines.
    """
    home = {name: module for module, names in modules.items() for name in names}
    found = vars(sys.modules[package])

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found[name] = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        return found[name]

    def __dir__() -> list[str]:
        return sorted({*found, *home})

    found.update(__getattr__=__getattr__, __dir__=__dir__)
