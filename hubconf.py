"""The networks for ``torch.hub``: ``torch.hub.load(PLACE, "simnet2", num_classes=10)``; arguments as ``create_model``.

``torch.hub.list`` lists them. ``features_only=True`` and ``num_classes=0`` give backbones.
"""

import functools as _functools
import importlib as _importlib
import sys as _sys
from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path

dependencies = ["torch", "torchvision", "numpy", "PIL"]

if _find_spec("simroot") is None:  # a checkout that is not installed
    _sys.path.insert(0, str(_Path(__file__).with_name("src")))

_models = _importlib.import_module("simroot.models")


def _network(name: str) -> "_functools.partial[object]":
    found = _functools.partial(_models.create_model, name)
    found.__doc__ = f"{name} of simroot; see simroot.create_model."
    return found


globals().update({_name: _network(_name) for _name in _models.list_models()})
