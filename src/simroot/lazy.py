"""Packages that import a name when it is first used: what a command does not need, it does not wait for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any


def serve(package: str, **modules: Sequence[str]) -> None:
    """Let a package import each of its public names from one of its modules when the name is first asked for.

    A name may be that of its module too, as in ``simroot.data.load``: the package then has what the module defines
    under it, whether the module has been imported before or not.

    Args:
        package: the package's ``__name__``, which is being imported.
        **modules: of the package, each with the names that it defines.
    """
    home = {name: module for module, names in modules.items() for name in names}

    class Package(ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name not in home:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            value = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
            setattr(self, name, value)
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            # The import of a module binds it in its package.
            if not (name in home and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *home})

    sys.modules[package].__class__ = Package
