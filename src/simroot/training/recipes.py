"""How a network is trained: one frozen, validated set of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_origin, get_type_hints

from simroot.data.crop import Crop
from simroot.errors import ConfigError, nearest, quoted
from simroot.images.preparation import ImageSize, sides
from simroot.untrusted.schema import UnknownNameError, require

if TYPE_CHECKING:
    from simroot.data.augment import Augmentation
    from simroot.data.mixing import Mixing

Optimizer = Literal["sgd", "adamw", "muon"]
Schedule = Literal["onecycle", "cosine", "step", "constant"]
Precision = Literal["32", "bf16"]
Distillation = Literal["plain", "dkd"]
Balance = Literal["none", "loss", "sampler"]
Metric = Literal["accuracy", "balanced_accuracy", "f1", "loss", "mean_average_precision"]
# Passes of a training in integers, see ``simroot.training.quantise``.
INTEGER_EPOCHS = 5
# What no training needs more of, and what no rate or factor comes near.
_MANY = 1_000_000
_LARGE = 3e38
# Of Beta(a, a): beyond, all shares are a half.
_BETA = 1000
# Data sets whose images mean something else when mirrored.
_NEVER_MIRRORED = ("digits", "svhn")


@dataclass(frozen=True)
class Recipe:
    """All that decides how a network is trained, apart from the network and the data.

    Attributes:
        epochs: passes over the training images.
        batch_size: images in a step, over all processes together.
        optimizer: ``"sgd"``, ``"adamw"`` or ``"muon"``, whose steps are orthogonal matrices: rates of 0.01 to 0.05.
        learning_rate: the schedule's highest rate.
        momentum: SGD's and Muon's momentum, or AdamW's first beta.
        nesterov: SGD with Nesterov's momentum.
        weight_decay: of parameters with at least two dimensions, unless their layer's hints say otherwise.
        schedule: ``"onecycle"`` (cosine up from 1/25 of the rate and down to almost zero), ``"cosine"`` (linear up,
            cosine down to zero), ``"step"`` (times ``gamma`` at each milestone) or ``"constant"``.
        milestones: where ``"step"`` lowers the rate: epochs, or fractions of the training if below 1.
        gamma: the factor of ``"step"``.
        warmup: fraction of the training in which the rate rises.
        clip_norm: largest norm of the gradient of all parameters together; None does not clip.
        label_smoothing: share of the target that is spread over all classes.
        shift: training images are moved by up to so many pixels each way; None stands for an eighth of their size.
        mirror: training images are mirrored at random; None stands for yes unless the images are of digits.
        rotate: training images are turned by up to so many degrees each way.
        zoom: training images are scaled by a factor between 1 / (1 + zoom) and 1 + zoom.
        jitter: contrast and brightness of training images, and each channel's own brightness, change at random by up to
            this factor, and by up to so many deviations of the data.
        erase: a square of up to so much of the image's side is erased at random in training images.
        mixup: training images are mixed with others of their batch, and their labels with them: a of Beta(a, a), from
            which the image's share of all pixels is drawn.
        cutmix: a box of each training image shows another one of the batch, and the labels are mixed by area: a of
            Beta(a, a), from which the share of the pixels outside the box is drawn. With both, each image has one.
        ramp: share of the training in which ``mixup`` and ``cutmix`` grow from 0 to their values, epoch by epoch.
        settle: the last share of the epochs, without ``rotate``, ``zoom``, ``jitter``, ``erase``, ``mixup`` and
            ``cutmix``.
        ema: the decay of an exponential moving average of the weights, one step at a time. The average is what is
            validated, what model.safetensors holds and what the run's figures are of; raw.safetensors holds the weights
            themselves at that epoch. 0 keeps no average.
        distil: with a teacher, the share of the loss that imitates it; the rest is the labels'.
        distillation: how: ``"plain"``, by the divergence of all classes' probabilities, or ``"dkd"``, decoupled into
            that of the label's class and that of the others. Of mixed images the larger part's label counts.
        temperature: by which the scores of both are divided before they are compared.
        standardise: bring the scores of both to mean 0 and deviation 1 over the classes first.
        balance: what makes small classes count as much as large ones: ``"loss"``, weights of their images, or
            ``"sampler"``, which shows all classes alike often; ``"none"`` takes the images as they are.
        crop: what is seen of images that are read from files while training: ``"whole"``, brought to the network's
            size; ``"scale"``, a random window of the network's size after scaling the shorter side to 8/7 of it (256
            for 224); or ``"random-resized"``, a random part of 8% to 100% of the area. Evaluation then sees the middle
            after the same scaling, and ``shift`` stands for 0.
        precision: ``"32"``, or ``"bf16"`` for automatic mixed precision with bfloat16.
        channels_last: keep image tensors channels-last in memory.
        compile: compile the network with ``torch.compile``.
        accelerate: train on the processor by native kernels (``simroot.layers.accelerate``), unless compiled. Results
            differ in rounding alone, so recipes are equal with and without.
        metric: of the validation images, what decides which epoch is the best: ``"accuracy"``, ``"balanced_accuracy"``
            (the mean over the classes), ``"f1"`` (likewise) or ``"loss"``. Where an image may have several classes
            ``"accuracy"`` stands for ``"mean_average_precision"``, and F1 goes by probabilities of a half.
        patience: end the training when neither metric nor loss on the validation images was better in so many epochs
            than before; None goes on to the last.
        seed: of the initial weights, the order of the images, augmentation and noise.

    Raises:
        ConfigError: for a field with a wrong value; names the field, what it received and what it expects.
    """

    epochs: int = 30
    batch_size: int = 128
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    schedule: Schedule = "onecycle"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup: float = 0.2
    clip_norm: float | None = None
    label_smoothing: float = 0.0
    shift: int | None = None
    mirror: bool | None = None
    rotate: float = 0.0
    zoom: float = 0.0
    jitter: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ramp: float = 0.0
    settle: float = 0.0
    ema: float = 0.0
    distil: float = 0.9
    distillation: Distillation = "plain"
    temperature: float = 2.0
    standardise: bool = True
    balance: Balance = "none"
    crop: Crop = "whole"
    precision: Precision = "32"
    channels_last: bool = True
    compile: bool = False
    accelerate: bool = field(default=True, compare=False)
    metric: Metric = "accuracy"
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        milestones: object = self.milestones
        if isinstance(milestones, list):
            object.__setattr__(self, "milestones", tuple(milestones))
        for name, kind in _KINDS.items():
            require(getattr(self, name), kind, f"recipe field {name}")
        for name, (accepts, expected) in _RULES.items():
            value = getattr(self, name)
            if not accepts(value):
                raise ConfigError(f"recipe field {name} is {quoted(value)}; expected {expected}")
        if self.nesterov and self.optimizer == "sgd" and self.momentum == 0:
            raise ConfigError(
                "recipe field nesterov is True with momentum 0; set momentum above 0 or nesterov to False"
            )
        if self.schedule == "step" and not self.milestones:
            raise ConfigError("recipe field milestones is empty; the step schedule expects at least one")

    @property
    def augmentation(self) -> Augmentation:
        """What is changed at random in training images beyond shift and mirror."""
        from simroot.data.augment import Augmentation  # needs PyTorch, which a recipe does not

        return Augmentation(self.rotate, self.zoom, self.jitter, self.erase)

    @property
    def settled_from(self) -> int:
        """The first epoch, from 0, of the last share of them that ``settle`` is."""
        return self.epochs - round(self.settle * self.epochs)

    def mixing(self, epoch: int) -> Mixing:
        """How training images are mixed in an epoch, from 0."""
        from simroot.data.mixing import Mixing

        if epoch >= self.settled_from:
            return Mixing()
        rise = self.ramp * self.epochs
        grown = min(1.0, epoch / rise) if rise else 1.0
        return Mixing(self.mixup * grown, self.cutmix * grown)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, for YAML or JSON."""
        return {**asdict(self), "milestones": list(self.milestones)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The recipe of ``to_dict``; fields that are left out have their defaults."""
        return _changed(cls(), values)


def _whole(lowest: int, highest: int = _MANY) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and lowest <= value <= highest


def _real(accepts: Callable[[float], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and accepts(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _optional(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or accepts(value)


_positive = _real(lambda value: 0 < value < _LARGE)
_fraction = _real(lambda value: 0 <= value < 1)
_ABOVE_0 = f"a number above 0 and below {_LARGE:g}"

# What the types alone say of a field, and what they do not.
_KINDS = {name: kind for name, kind in get_type_hints(Recipe).items() if kind is bool or get_origin(kind) is Literal}
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "epochs": (_whole(1), f"a whole number of at least 1 and at most {_MANY:,}"),
    "batch_size": (_whole(1), f"a whole number of at least 1 and at most {_MANY:,}"),
    "learning_rate": (_positive, _ABOVE_0),
    "momentum": (_fraction, "a number from 0 to below 1"),
    "weight_decay": (_real(lambda value: 0 <= value < _LARGE), f"a number of at least 0 and below {_LARGE:g}"),
    "milestones": (
        lambda value: isinstance(value, list | tuple) and all(map(_positive, value)) and list(value) == sorted(value),
        f"rising numbers above 0 and below {_LARGE:g}: epochs, or fractions of the training if below 1",
    ),
    "gamma": (_positive, _ABOVE_0),
    "warmup": (_fraction, "a fraction of the training from 0 to below 1"),
    "clip_norm": (_optional(_positive), f"{_ABOVE_0}, or null for no clipping"),
    "label_smoothing": (_fraction, "a fraction from 0 to below 1"),
    "shift": (_optional(_whole(0)), "a whole number of pixels, or null for an eighth of the image"),
    "mirror": (_optional(_flag), "true or false, or null to choose by the data"),
    "rotate": (_real(lambda value: 0 <= value <= 180), "degrees from 0 to 180"),
    "zoom": (_real(lambda value: 0 <= value < _LARGE), f"a number of at least 0 and below {_LARGE:g}"),
    "jitter": (_real(lambda value: 0 <= value <= 1), "a number from 0 to 1"),
    "erase": (_real(lambda value: 0 <= value <= 1), "a share from 0 to 1"),
    "mixup": (_real(lambda value: 0 <= value <= _BETA), f"a number from 0 to {_BETA}"),
    "cutmix": (_real(lambda value: 0 <= value <= _BETA), f"a number from 0 to {_BETA}"),
    "ramp": (_real(lambda value: 0 <= value <= 1), "a share of the training from 0 to 1"),
    "settle": (_real(lambda value: 0 <= value <= 1), "a share of the epochs from 0 to 1"),
    "distil": (_real(lambda value: 0 <= value <= 1), "a share of the loss from 0 to 1"),
    "temperature": (_real(lambda value: 1e-3 <= value <= 1e3), "a number from 0.001 to 1000"),
    "ema": (_fraction, "a decay from 0 to below 1"),
    "patience": (_optional(_whole(1)), "a number of epochs of at least 1, or null"),
    "seed": (_whole(0, 2**32 - 1), "a whole number from 0 to 2^32 - 1"),
}

RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "paper": Recipe(
        epochs=300,
        learning_rate=0.01,
        schedule="step",
        milestones=(200 / 300, 250 / 300),
        warmup=0.0,
    ),
    "imagenet": Recipe(
        epochs=90,
        batch_size=256,
        nesterov=False,
        schedule="step",
        milestones=(1 / 3, 2 / 3),
        warmup=0.0,
        shift=0,
        mirror=True,
        crop="scale",
    ),
    "long": Recipe(
        epochs=200,
        weight_decay=5e-4,
        label_smoothing=0.05,
        erase=0.25,
        mixup=0.2,
        ramp=0.5,
        settle=0.1,
        ema=0.999,
    ),
}
"""Recipes by name.

``"paper"`` is section 6.1 of Deep SimNets: SGD with Nesterov's momentum 0.9, batches of 128, weight decay 1e-4, rate
0.01 divided by 10 after 200 and 250 of 300 epochs (kept as fractions, so that a shorter training keeps the shape).
``"imagenet"`` has the augmentation of Deep Roots, sections 4.3 and 4.4, random crops and mirroring, with the schedule
of He et al. 2015, which the paper does not restate: batches of 256, rate 0.1 divided by 10 after a third and two thirds
of the training. ``"long"`` is for trainings to the end: 200 epochs with an average of the weights, labels that are a
little smooth, erased squares and a mixup that grows from 0 over the first half, and the last 20 epochs without these
two. It is for networks that overfit: one of 20,000 parameters is better without (``docs/training-long.md``)."""


def recipe(name: str = "default", **overrides: Any) -> Recipe:
    """The recipe of that name with some of its fields changed.

    Raises:
        ConfigError: for an unknown name or field, or a wrong value.
    """
    if name not in RECIPES:
        raise ConfigError(f"unknown recipe {name!r}; known are {', '.join(sorted(RECIPES))}")
    return _changed(RECIPES[name], overrides)


def for_data(recipe: Recipe, named: str | None, image_size: ImageSize) -> Recipe:
    """The recipe with shift and mirror decided, as a run on data of this image size records it.

    Args:
        recipe: how to train.
        named: the name of a named data set; None for other images, which are mirrored whatever they are called.
        image_size: their side in pixels, or height and width.

    Raises:
        ConfigError: for shifts by whole images.
    """
    side = min(sides(image_size))
    if recipe.shift is not None and recipe.shift >= side:
        raise ConfigError(f"recipe field shift is {recipe.shift}; expected less than the image size, {side} pixels")
    shift = (side // 8 if recipe.crop == "whole" else 0) if recipe.shift is None else recipe.shift
    mirror = named not in _NEVER_MIRRORED if recipe.mirror is None else recipe.mirror
    return replace(recipe, shift=shift, mirror=mirror)


def require_fields(values: Mapping[str, Any]) -> None:
    """Refuse names that a recipe does not have.

    Raises:
        UnknownNameError: with the nearest names.
    """
    known = [field.name for field in fields(Recipe)]
    for name in values:
        if name not in known:
            raise UnknownNameError(f"a recipe has no field {quoted(name)}; {nearest(str(name), known)}")


def _changed(base: Recipe, values: Mapping[str, Any]) -> Recipe:
    require_fields(values)
    if isinstance(values.get("precision"), int):  # as YAML has it without quotes
        values = {**values, "precision": str(values["precision"])}
    return replace(base, **values)
