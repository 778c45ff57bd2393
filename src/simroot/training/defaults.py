"""What is trained, and how, where nobody says: network and recipe follow the data.

``docs/defaults.md`` says what the rules were measured on and what not; ``benchmarks/defaults.py`` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simroot.data import ImageData
from simroot.errors import counted
from simroot.images.preparation import sides
from simroot.models import model_entry
from simroot.models.image_sizes import Plan, plan
from simroot.models.own import Network
from simroot.training.initial import origin_of, place_of
from simroot.training.recipes import Recipe, recipe

# Smaller images than this have no third grid: they are for simnet2's small sibling.
_SMALL = 12
# From so many training images on a network of 65,000 parameters is better than one of 20,000.
_MANY = 20_000
_NETWORK = "simnet_residual"
# (whether there are many images, grids) -> arguments: some 20,000 parameters, or 65,000.
_SIZES: Mapping[tuple[bool, int], Mapping[str, Any]] = {
    (False, 3): {"channels": 24},
    (False, 4): {"channels": 18},
    (True, 3): {"channels": (40, 64, 92), "depth": (1, 4, 4)},
    (True, 4): {"channels": 30, "depth": (1, 4, 4)},
}

# Below so many colour images these weights, which come with simroot, were a better start than random ones.
_FEW, _START = 100, "simnet_20k_cifar10"

# Epochs are so many divided by the root of the number of images: fewer images are seen more often, but fewer in all.
_EPOCHS, _LEAST, _MOST = 2_800, 10, 200
# Below so many images: their batches, and the share of the rate of the network's entry, which is for the largest.
_BATCHES = ((5_000, 32, 0.5), (20_000, 64, 0.75), (math.inf, 128, 1.0))

# Beside shift and mirror, of images for which networks have a fourth grid; smaller ones lose by it.
_AUGMENTATION = {"rotate": 15.0, "zoom": 0.15, "jitter": 0.2}


@dataclass(frozen=True)
class Choice:
    """A network and a recipe for some images.

    Attributes:
        model: name in the registry.
        overrides: arguments of its builder.
        changes: fields in which the recipe differs from the default one.
        reasons: what was chosen and why, a line each.
    """

    model: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """How to train it."""
        return recipe(**self.changes)

    def notes(self, how: Recipe, overrides: Mapping[str, Any]) -> tuple[str, ...]:
        """The reasons, and what is other than the choice because somebody said so."""
        chosen, used = ({**how.to_dict(), **given} for how, given in ((self.recipe, self.overrides), (how, overrides)))
        told = [f"{name} {value}" for name, value in used.items() if value != chosen.get(name)]
        return (*self.reasons, f"as told, in place of that: {', '.join(told)}") if told else self.reasons


def registered(model: Network) -> Recipe:
    """The recipe that a network is registered with; the default one for a network of one's own."""
    return recipe(**model_entry(model).recipe) if isinstance(model, str) else recipe()


def choose(data: ImageData, initial: str | Path | None = None) -> Choice:
    """The network and the recipe for images, by their number and size.

    Images below 12 pixels, as scikit-learn's digits, get ``simnet2_small`` as it is registered. All others get
    ``simnet_residual``: of some 20,000 parameters, or from 20,000 training images on of some 65,000.

    Args:
        data: the images.
        initial: the weights to start from, as ``train`` takes them; if they say of which network they are, it is taken.
    """
    origin = None if initial is None else origin_of(place_of(initial))
    count, size = len(data.train), min(sides(data.image_size))
    if origin is None and size < _SMALL:
        small = "simnet2_small"
        why = f"network {small}: images of {size} pixels, below {_SMALL}, are too small for several grids"
        return Choice(small, changes=model_entry(small).recipe, reasons=(why,))
    if origin is None:
        model, overrides, whys = _network(count, size)
    else:
        model, overrides = origin.model, origin.overrides
        whys = (f"network {model}: that of the weights to start from",)
    if initial is None and count < _FEW and data.channels == 3:
        whys += (f"few images: weights that come with simroot may be a better start, --initial {_START}",)
    changes, told = _recipe(model, count, size)
    return Choice(model, overrides, changes, (*whys, *told))


def _network(count: int, size: int) -> tuple[str, Mapping[str, Any], tuple[str, ...]]:
    many, drawn = count >= _MANY, plan(size)
    shape = "a step of 1" if drawn.stride == 1 else f"a first step of {drawn.stride} pixels"
    whys = (
        f"network {_NETWORK}, {'65' if many else '20'}K parameters: "
        f"{counted(count, 'training image')}, {'at least' if many else 'fewer than'} {_MANY:,}",
        f"its shape: {drawn.grids} grids and {shape}, for images of {size} pixels",
    )
    return _NETWORK, _SIZES[many, drawn.grids], whys


def _recipe(model: str, count: int, size: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    batch, share = next((batch, share) for below, batch, share in _BATCHES if count < below)
    epochs = min(max(round(_EPOCHS / math.sqrt(count)), _LEAST), _MOST)
    augmentation = {} if plan(size) == Plan() else _AUGMENTATION
    changes = {
        **model_entry(model).recipe,
        "epochs": epochs,
        "batch_size": batch,
        "learning_rate": round(share * registered(model).learning_rate, 6),
        "patience": max(10, epochs // 3),
        **augmentation,
    }
    augmented = (f"{name} {value:g}" for name, value in augmentation.items())
    return changes, (
        f"recipe: {counted(epochs, 'epoch')} of batches of {batch} at rate {changes['learning_rate']}, "
        f"for {counted(count, 'image')}; it ends when nothing has improved for {changes['patience']}",
        f"augmentation: {', '.join(['shift, mirror', *augmented])}, for images of {size} pixels",
    )
