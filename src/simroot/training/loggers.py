"""Lightning's loggers by name: what a training tells TensorBoard and its like, beside its own metrics.csv."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from simroot.errors import ConfigError, nearest, quoted

LOGS = "logs"
_PROJECT = "simroot"

# Name -> class, and the packages of which it needs one, as they are imported and as they are installed.
_KNOWN: dict[str, tuple[str, dict[str, str]]] = {
    "csv": ("CSVLogger", {}),
    "tensorboard": ("TensorBoardLogger", {"tensorboard": "tensorboard", "tensorboardX": "tensorboardX"}),
    "wandb": ("WandbLogger", {"wandb": "wandb"}),
    "mlflow": ("MLFlowLogger", {"mlflow": "mlflow"}),
    "comet": ("CometLogger", {"comet_ml": "comet-ml"}),
    "lit": ("LitLogger", {"litlogger": "litlogger"}),
}

Loggers = str | Logger | Sequence[str | Logger]


def require_loggers(asked: Loggers) -> list[str | Logger]:
    """The loggers that are asked for, each once; nothing is started.

    Raises:
        ConfigError: for a name that is unknown, or whose package is not installed.
    """
    loggers = list(dict.fromkeys([asked] if isinstance(asked, str | Logger) else asked))
    for each in loggers:
        if isinstance(each, Logger):
            continue
        if each not in _KNOWN:
            raise ConfigError(f"there is no logger {quoted(each)}; {nearest(str(each), _KNOWN)}")
        packages = _KNOWN[each][1]
        if packages and not any(map(find_spec, packages)):
            raise ConfigError(f"the logger {each} needs a package: pip install {next(iter(packages.values()))}")
    return loggers


def make_loggers(asked: Loggers, run: Path) -> list[Logger]:
    """Lightning's loggers for a run; those that write files write them into its folder ``logs``.

    Raises:
        ConfigError: as ``require_loggers``, or if one does not start, as without an account.
    """
    return [each if isinstance(each, Logger) else _made(each, run) for each in require_loggers(asked)]


def _made(name: str, run: Path) -> Logger:
    kind = getattr(importlib.import_module("lightning.pytorch.loggers"), _KNOWN[name][0])
    takes = inspect.signature(kind).parameters
    files = name in ("csv", "tensorboard")
    given: dict[str, Any] = {
        "save_dir": str(run / LOGS),
        "root_dir": str(run / LOGS),
        "name": name if files else run.name,
        "run_name": run.name,
        "project": _PROJECT,
        "experiment_name": _PROJECT,
    }
    if name == "tensorboard":
        given["version"] = ""  # a resumption goes on in the same place
    try:
        logger: Logger = kind(**{key: value for key, value in given.items() if key in takes})
    except Exception as error:  # whatever a service's client raises
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(f"the logger {name} does not start: {reason}") from error
    return logger
