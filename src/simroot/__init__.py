"""Accurate image classifiers within a budget of operations, parameters or milliseconds.

The rooms, in the order in which they may import one another: ``ops`` (pure functions), ``layers``, ``models``, then
``training``, ``measure`` and, on top of them, ``experiments`` and ``cli``; ``data`` and ``estimators`` stand beside
them. Importing ``simroot`` is cheap: PyTorch is loaded when a room or one of the names below is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simroot import data, estimators, experiments, export, layers, measure, models, ops, pretraining, training
    from simroot.models import create_model, list_models

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "create_model",
    "data",
    "estimators",
    "experiments",
    "export",
    "layers",
    "list_models",
    "measure",
    "models",
    "ops",
    "pretraining",
    "training",
]

_ROOMS = frozenset(
    {"data", "estimators", "experiments", "export", "layers", "measure", "models", "ops", "pretraining", "training"}
)
_MODEL_NAMES = frozenset({"create_model", "list_models"})


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"simroot.{name}")
    if name in _MODEL_NAMES:
        return getattr(importlib.import_module("simroot.models"), name)
    raise AttributeError(f"module 'simroot' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
