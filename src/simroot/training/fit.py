"""Training from the start, and going on with a run that was interrupted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from torch import nn

from simroot import data as datasets
from simroot.data import ImageData
from simroot.errors import CheckpointError, ConfigError, DataError
from simroot.files import remove_torn
from simroot.training.callbacks import ProgressBar, RunWriter, StatisticsWarning
from simroot.training.environment import versions
from simroot.training.files import AtomicCheckpoints, read_checkpoint
from simroot.training.module import Classifier
from simroot.training.recipes import Recipe, for_data
from simroot.training.run import (
    BEST,
    INITIAL,
    LAST,
    LOG,
    WEIGHTS,
    Run,
    build_model,
    check_same_data,
    create_run,
    discard_run,
    load_run,
    load_weights,
    make_config,
    read_config,
    resume_command,
    save_weights,
)
from simroot.training.session import keep_freed_memory, logging_to, quiet, reproducible
from simroot.training.statistics import FreshStatistics
from simroot.training.summary import finish

log = logging.getLogger(__name__)


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the training; the message says how to go on.

    Attributes:
        path: the run directory.
        signal: ``"SIGINT"`` or ``"SIGTERM"``.
    """

    def __init__(self, message: str, path: Path, signal: str) -> None:
        super().__init__(message)
        self.path, self.signal = path, signal


def train(
    model_name: str,
    data: ImageData,
    recipe: Recipe,
    out: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    data_source: Mapping[str, Any] | None = None,
    cost: Mapping[str, int] | None = None,
    initial: str | Path | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    workers: int | None = None,
    progress: bool = True,
) -> Run:
    """Train a registered network and leave all there is to know about it in a run directory.

    The same arguments on the same machine give the same weights, bit for bit, whether or not the training was killed
    and resumed. With several processes every one of them calls this function with the same arguments.

    Args:
        model_name: a name of ``simroot.models.list_models()``.
        data: training and validation images.
        recipe: how to train.
        out: the run directory to make.
        overrides: arguments of the network's builder.
        data_source: the arguments of ``simroot.data.load`` that give ``data``; without them only a resumption that is
            handed the data can go on with the run.
        cost: the deployed network's ``parameters``, ``macs`` and ``flops``, for summary.json.
        initial: safetensors with the weights to start from, such as a pre-training's; random ones if None. The run
            directory keeps a copy.
        accelerator: of Lightning's Trainer, as the next three: ``"auto"``, ``"cpu"``, ``"gpu"``, ...
        devices: how many, or ``"auto"`` for all (one process on a CPU).
        num_nodes: how many machines.
        strategy: how several devices work together, such as ``"ddp"``.
        workers: threads that decode images ahead, per process; None leaves it to the loader.
        progress: show progress on standard error: a bar on a terminal, a line per epoch elsewhere.

    Returns:
        The run with the weights of its best epoch.

    Raises:
        ConfigError: for a wrong argument, or if ``out`` holds a run already.
        CheckpointError: if ``initial`` cannot be read or does not fit the network.
        TrainingError: if the loss is not finite, or a file cannot be written.
        TrainingInterrupted: after Ctrl-C or SIGTERM.
    """
    path = Path(out)
    recipe = for_data(recipe, data.name, data.image_size)
    start = None if initial is None else Path(initial)
    config = make_config(model_name, overrides or {}, data, data_source, recipe, cost, versions(), start)
    model = _initial_model(config, recipe, start)
    if _first_process():
        create_run(path, config)
        if start is not None:
            save_weights(path / INITIAL, model)
    trainer_options = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes, "strategy": strategy}
    try:
        return _fit(path, config, model, data, recipe, None, trainer_options, workers=workers, progress=progress)
    except (ConfigError, DataError):
        if _first_process():
            discard_run(path)
        raise


def resume(
    run_dir: str | Path,
    *,
    data: ImageData | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    workers: int | None = None,
    progress: bool = True,
) -> Run:
    """Go on with the run in a directory from its last complete epoch.

    ``data`` is what the run was started with; None loads it again. The other arguments are those of ``train`` and may
    differ from those that the run was started with.

    Raises:
        CheckpointError: if the directory holds no run, or no checkpoint of it can be read.
        DataError: if the data is not what the run was started with.
        TrainingError, TrainingInterrupted: as ``train``.
    """
    path = Path(run_dir)
    config = read_config(path)
    recipe = Recipe.from_dict(config["recipe"])
    if data is None:
        if config["data"].get("source") is None:
            raise CheckpointError(f"{path} does not say where its data came from; pass the data to resume")
        data = datasets.load(**config["data"]["source"])
    check_same_data(config, data, path)
    _warn_of_other_versions(config.get("versions", {}))
    if _first_process():
        remove_torn(path)
    checkpoint = _newest_checkpoint(path)
    model = _initial_model(config, recipe, path / INITIAL if config["model"].get("initial") else None)
    if checkpoint is not None:
        load_weights(checkpoint, model)
        if checkpoint.name == BEST and _first_process():
            save_weights(path / WEIGHTS, model)  # an interruption may have come between the two
    trainer_options = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes, "strategy": strategy}
    return _fit(path, config, model, data, recipe, checkpoint, trainer_options, workers=workers, progress=progress)


def _fit(
    path: Path,
    config: Mapping[str, Any],
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    checkpoint: Path | None,
    trainer_options: Mapping[str, Any],
    *,
    workers: int | None,
    progress: bool,
) -> Run:
    console = Console(stderr=True)
    keep_freed_memory()
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if recipe.compile:
        model.compile()
    module = Classifier(model, data, recipe, workers)
    writer = RunWriter(path)
    callbacks: list[Callback] = [writer, FreshStatistics(), StatisticsWarning()]
    if progress and console.is_terminal and _first_process():
        callbacks.append(ProgressBar(console))
    with ExitStack() as stack:
        if _first_process():  # one of several speaks
            stack.enter_context(logging_to(path / LOG, console if progress else None))
        stack.enter_context(quiet())
        trainer = make_trainer(path, recipe, callbacks, trainer_options)
        stack.enter_context(reproducible(trainer.strategy.root_device))
        log.info(
            "%s: %s on %s, %d training and %d validation images, %d epochs",
            "starting" if checkpoint is None else f"going on from {checkpoint.name}",
            config["model"]["name"],
            data.name,
            len(data.train),
            len(data.val),
            recipe.epochs,
        )
        try:
            trainer.fit(module, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
        except (SystemExit, KeyboardInterrupt) as error:
            signal = "SIGTERM" if trainer.received_sigterm else "SIGINT"
            done = len(module.history)
            raise TrainingInterrupted(
                f"stopped by {signal} in epoch {min(done + 1, recipe.epochs)} of {recipe.epochs}; {writer.path} keeps "
                f"the {done} before. To go on: {resume_command(writer.path)}",
                writer.path,
                signal,
            ) from error
        if trainer.is_global_zero:
            finish(writer.path, module.history, data, trainer.strategy.root_device)
    return load_run(writer.path)


def make_trainer(
    path: Path, recipe: Recipe, callbacks: list[Callback], trainer_options: Mapping[str, Any]
) -> L.Trainer:
    """Lightning's Trainer for a recipe: silent, without files of its own.

    Raises:
        ConfigError: for devices or a strategy that it does not know or this machine does not have.
    """
    try:
        return L.Trainer(
            **trainer_options,
            max_epochs=recipe.epochs,
            precision="bf16-mixed" if recipe.precision == "bf16" else "32-true",
            gradient_clip_val=recipe.clip_norm,
            callbacks=callbacks,
            plugins=[AtomicCheckpoints()],
            default_root_dir=path,
            logger=False,
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,  # the loader shares the batches out
            sync_batchnorm=torch.cuda.is_available(),
        )
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        chosen = ", ".join(f"{name} {value}" for name, value in trainer_options.items())
        raise ConfigError(f"Lightning cannot train with {chosen}: {' '.join(str(error).split())}") from error


def _initial_model(config: Mapping[str, Any], recipe: Recipe, weights: Path | None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build_model(config)
    if weights is not None:
        if not weights.is_file():
            raise CheckpointError(f"{weights} does not exist; expected the weights to start from, as safetensors")
        load_weights(weights, model)
    return model


def _first_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _warn_of_other_versions(before: Mapping[str, Any]) -> None:
    now = versions()
    changed = [f"{key} was {before[key]} and is {now[key]}" for key in now if key in before and before[key] != now[key]]
    if changed:
        log.warning("the weights may differ in the last bits from an uninterrupted run: %s", "; ".join(changed))


def _newest_checkpoint(path: Path) -> Path | None:
    """The last checkpoint, the best one if that is damaged, or None if no epoch was completed."""
    candidates = [path / name for name in (LAST, BEST) if (path / name).exists()]
    for candidate in candidates:
        try:
            read_checkpoint(candidate)
        except CheckpointError as error:
            if candidate == candidates[-1]:
                raise
            log.warning("%s; going on from %s instead", error, candidates[-1].name)
        else:
            return candidate
    return None
