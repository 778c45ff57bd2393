"""Accurate image classifiers within a budget of operations, parameters or milliseconds.

The rooms and which of them may import which: docs/architecture.md. Importing ``simroot`` is cheap: PyTorch is loaded
when a room or one of the names below is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from simroot._version import __version__

if TYPE_CHECKING:
    from simroot import (
        data,
        design,
        engines,
        estimators,
        export,
        layers,
        measure,
        models,
        ops,
        pretraining,
        report,
        reproduce,
        roots,
        training,
        trials,
    )
    from simroot.classifier import Classifier
    from simroot.models import create_model, list_models, list_pretrained
    from simroot.training import load_run, train

__all__ = [
    "Classifier",
    "__version__",
    "create_model",
    "data",
    "design",
    "engines",
    "estimators",
    "export",
    "layers",
    "list_models",
    "list_pretrained",
    "load_run",
    "measure",
    "models",
    "ops",
    "pretraining",
    "report",
    "reproduce",
    "roots",
    "train",
    "training",
    "trials",
]

# Name -> where it is from.
_NAMES = {
    "Classifier": "classifier",
    **dict.fromkeys(("create_model", "list_models", "list_pretrained"), "models"),
    **dict.fromkeys(("load_run", "train"), "training"),
}
_ROOMS = frozenset(__all__) - {"__version__", *_NAMES}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"simroot.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"simroot.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'simroot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
