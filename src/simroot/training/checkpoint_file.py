"""Reading checkpoints from anywhere: nothing of a file is used before its type, shape and size are what they must be.

What a training goes on with is made anew, in the structure that this version and this run have: of the file, it has
the weights, the optimizer's averages, the history and the number of steps.
"""

from __future__ import annotations

import math
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor, nn

from simroot.errors import CheckpointError, ConfigError, quoted
from simroot.training.optim import build_optimizer, build_schedule
from simroot.training.recipes import Recipe
from simroot.untrusted.documents import require_regular
from simroot.untrusted.pickles import ForeignObjectError, read_pickle
from simroot.untrusted.schema import Positive, require
from simroot.untrusted.tensors import fitting as fitting

# The classifier of a checkpoint holds the network under this name.
PREFIX = "model."
# And the average of its weights, if the recipe asks for one, under this.
AVERAGE = "average."

_LARGEST_PICKLE = 64 << 20
_DTYPES = {
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
}
# What the optimizers keep of each parameter: name -> whether it has the parameter's shape (or is one number).
_KEPT: Mapping[str, Mapping[str, bool]] = {
    "sgd": {"momentum_buffer": True},
    "muon": {"momentum_buffer": True},
    "adamw": {"step": False, "exp_avg": True, "exp_avg_sq": True},
}


class _EpochFigures(TypedDict):
    epoch: Positive
    train_loss: float
    val_loss: float
    learning_rate: float
    seconds: float


class EpochFigures(_EpochFigures, total=False):
    """What the history says of an epoch."""

    train_accuracy: float
    val_accuracy: float
    train_mean_average_precision: float
    val_mean_average_precision: float
    teacher_seconds: float
    val_balanced_accuracy: float
    val_f1: float


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU: plain values and tensors, each with memory of its own size.

    Raises:
        CheckpointError: if the file is missing or damaged, or no checkpoint of simroot train.
    """
    try:
        require_regular(path)
        checkpoint = _read(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; expected a checkpoint written by simroot train") from error
    except ForeignObjectError as error:
        raise CheckpointError(
            f"{path} holds more than tensors and plain values and was not loaded: unpickling "
            f"{quoted(error.name)[1:-1]} could run any code; use a checkpoint written by simroot train"
        ) from error
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or truncated and cannot be read: {error}") from error
    foreign = f"{path} is no checkpoint of simroot train"
    if not isinstance(checkpoint, dict) or not {"state_dict", "history"} <= checkpoint.keys():
        raise CheckpointError(f"{foreign}: it lacks the weights or the history")
    weights, history = checkpoint["state_dict"], checkpoint["history"]
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise CheckpointError(f"{foreign}: its weights are no tensors with names")
    try:
        require(history, list[EpochFigures], "history")
    except ConfigError as error:
        raise CheckpointError(f"{foreign}: its history has no row for every epoch ({error})") from error
    if [row["epoch"] for row in history] != list(range(1, len(history) + 1)) or not history:
        raise CheckpointError(f"{foreign}: its history has no row for every epoch")
    return checkpoint


def weights_of(checkpoint: Mapping[str, Any], *, raw: bool = False) -> dict[str, Tensor]:
    """The network's part of a checkpoint's weights: their average where there is one, unless ``raw``."""
    return (not raw and _under(AVERAGE, checkpoint)) or _under(PREFIX, checkpoint)


def _under(prefix: str, checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    weights = checkpoint["state_dict"].items()
    return {name.removeprefix(prefix): tensor for name, tensor in weights if str(name).startswith(prefix)}


def restored(checkpoint: Mapping[str, Any], model: nn.Module, recipe: Recipe, loops: dict[str, Any]) -> dict[str, Any]:
    """What Lightning goes on with, from a checkpoint of ``read_checkpoint``.

    Args:
        checkpoint: with ``state_dict``, ``history``, ``global_step`` and ``optimizer_states``.
        model: the network of the run.
        recipe: of the run.
        loops: counters of Lightning's fit loop at the start of a training.

    Raises:
        CheckpointError: if a part does not fit the run.
    """
    from lightning import __version__ as version  # slow to import: reading weights does without

    history, steps = checkpoint["history"], checkpoint.get("global_step")
    epochs = len(history)
    if epochs > recipe.epochs:
        raise CheckpointError(f"the checkpoint has {epochs} epochs, the recipe {recipe.epochs}")
    if type(steps) is not int or not 0 < steps < 2**53 or steps % epochs:
        raise CheckpointError(f"the checkpoint has {quoted(steps)} steps in {epochs} epochs; expected as many in each")
    if any(f"val_{recipe.metric}" not in row for row in history):
        raise CheckpointError(f"the checkpoint's epochs have no {recipe.metric}, by which the recipe finds the best")
    parts = {PREFIX: "the checkpoint does not fit the network"}
    if recipe.ema:
        parts[AVERAGE] = "the checkpoint's average of the weights does not fit the network"
    weights = {
        f"{prefix}{name}": tensor
        for prefix, failure in parts.items()
        for name, tensor in fitting(_under(prefix, checkpoint), model.state_dict(), failure).items()
    }
    optimizer = build_optimizer(model, recipe)
    schedule = build_schedule(optimizer, recipe, steps // epochs)
    state = optimizer.state_dict()
    rates = [base * schedule.lr_lambdas[0](steps) for base in schedule.base_lrs]
    groups = [{**group, "lr": rate} for group, rate in zip(state["param_groups"], rates, strict=True)]
    return {
        "epoch": epochs - 1,
        "global_step": steps,
        "pytorch-lightning_version": version,
        "state_dict": weights,
        "loops": {"fit_loop": _counted(loops, epochs, steps)},
        "callbacks": {},
        "optimizer_states": [
            {"state": _averages(checkpoint.get("optimizer_states"), optimizer, recipe), "param_groups": groups}
        ],
        "lr_schedulers": [
            {**schedule.state_dict(), "last_epoch": steps, "_step_count": steps + 1, "_last_lr": rates},
        ],
        "history": [dict(row) for row in history],
    }


def _averages(states: Any, optimizer: torch.optim.Optimizer, recipe: Recipe) -> dict[int, dict[str, Tensor]]:
    """The optimizer's tensors for each parameter that has some, in the parameter's layout."""
    try:
        require(states, list, "optimizer_states")
        found = states[0]["state"]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        if not isinstance(found, dict) or not found.keys() <= set(range(len(parameters))):
            raise CheckpointError("its state is not of the network's parameters")
        return {number: _kept(kept, parameters[number], recipe) for number, kept in found.items()}
    except (CheckpointError, ConfigError, LookupError, TypeError) as error:
        raise CheckpointError(f"the checkpoint's optimizer does not fit the recipe's: {error}") from error


def _kept(kept: Any, parameter: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    number, names = torch.zeros(()), _KEPT[recipe.optimizer]
    expected = {name: parameter.detach() if shaped else number for name, shaped in names.items()}
    if recipe.optimizer == "sgd" and recipe.momentum == 0:
        expected = {}
    if not isinstance(kept, dict) or not all(isinstance(tensor, Tensor) for tensor in kept.values()):
        raise CheckpointError(f"what it keeps of a parameter is {quoted(kept)}; expected {', '.join(expected)}")
    return fitting(kept, expected, "what it keeps of a parameter")


def _counted(counters: Mapping[str, Any], epochs: int, steps: int) -> dict[str, Any]:
    """Lightning's counters at the end of an epoch."""
    counted: dict[str, Any] = {}
    for name, value in counters.items():
        if "val_loop" in name or "manual" in name:
            counted[name] = value
        elif name == "epoch_progress":
            done = {kind: dict.fromkeys(counts, epochs) | {"completed": epochs - 1} for kind, counts in value.items()}
            counted[name] = done
        elif name == "total":
            counted[name] = dict.fromkeys(value, steps)
        elif name == "current":
            counted[name] = dict.fromkeys(value, steps // epochs)
        elif isinstance(value, dict):
            counted[name] = _counted(value, epochs, steps)
        else:
            counted[name] = {"_batches_that_stepped": steps, "is_last_batch": True}.get(name, value)
    return counted


class _Storage(NamedTuple):
    numbers: Tensor


class _Tensors:
    """The tensors of a file of torch.save: views of its parts, whose checksums the archive compares."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        self.archive, self.folder = archive, folder
        self.storages: dict[tuple[str, torch.dtype], _Storage] = {}

    def storage(self, identifier: Any) -> _Storage:
        """The numbers of ("storage", type, key, device, count)."""
        kind, dtype, key, _, count = identifier
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise ValueError("a tensor has no numbers")
        if (key, dtype) not in self.storages:
            content = bytearray(self.archive.read(f"{self.folder}data/{key}"))
            if type(count) is not int or len(content) != count * dtype.itemsize:
                raise ValueError(f"a tensor of {quoted(count)} numbers has {len(content):,} bytes")
            numbers = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            self.storages[key, dtype] = _Storage(numbers)
        return self.storages[key, dtype]

    def rebuild(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        """A view of a storage, no number of which occurs twice."""
        if not isinstance(storage, _Storage):
            raise ValueError("a tensor has no numbers")
        whole = [offset, *size, *stride]
        if not all(type(number) is int and 0 <= number < 2**53 for number in whole) or len(size) != len(stride):
            raise ValueError("a tensor has a size that there is not")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        count = storage.numbers.numel()
        if len(size) > 16 or math.prod(size) > count or (math.prod(size) and last >= count):
            raise ValueError(f"a tensor of size {quoted(size)} has {count} numbers")
        return storage.numbers.as_strided(size, stride, offset) if math.prod(size) else storage.numbers.new_empty(size)


def _read(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        names = [entry.filename for entry in entries]
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or len(set(names)) < len(names):
            raise ValueError("it is packed in an unusual way")
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("data.pkl")]
        if len(roots) != 1 or archive.getinfo(f"{roots[0]}data.pkl").file_size > _LARGEST_PICKLE:
            raise ValueError("it has no contents of usual size")
        order = f"{roots[0]}byteorder"
        if order in names and archive.read(order).decode("latin1") != sys.byteorder:
            raise ValueError("it was written by a processor of another byte order")
        tensors = _Tensors(archive, roots[0])
        constructors = {
            **_DTYPES,
            "collections OrderedDict": dict,
            "torch._utils _rebuild_tensor_v2": tensors.rebuild,
        }
        return read_pickle(archive.read(f"{roots[0]}data.pkl"), constructors, tensors.storage)
