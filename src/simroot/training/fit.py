"""Training from the start, and going on with a run that was interrupted."""

from __future__ import annotations

import copy
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from torch import nn

from simroot import data as datasets
from simroot.data import ImageData
from simroot.data.balance import uneven_line
from simroot.data.classes import class_lines
from simroot.data.shard_order import streamed_line
from simroot.errors import CheckpointError, counted
from simroot.files import remove_torn
from simroot.layers import accelerate, acceleration, restore
from simroot.layers.guarded import guard, unguard
from simroot.models import own
from simroot.models.memory import require_memory
from simroot.ops.native import native
from simroot.training.averaging import Averaging
from simroot.training.callbacks import ProgressBar, RunWriter, StatisticsWarning
from simroot.training.claim import claimed, first_process
from simroot.training.defaults import choose, registered
from simroot.training.environment import versions
from simroot.training.images import keep_images, save_known
from simroot.training.initial import place_of, read_start, start_from
from simroot.training.integers import open_integers
from simroot.training.loggers import Loggers, make_loggers
from simroot.training.module import ClassificationModule
from simroot.training.objective import settled
from simroot.training.prior import start_at_shares
from simroot.training.recipes import Recipe, for_data
from simroot.training.resumption import newest_checkpoint, warn_of_other_versions
from simroot.training.run import (
    BEST,
    INITIAL,
    LOG,
    RAW,
    WEIGHTS,
    Run,
    build_model,
    check_same_data,
    create_run,
    data_arguments,
    discard_run,
    load_run,
    load_weights,
    make_config,
    read_config,
    record_source,
    require_free,
    resume_command,
    save_weights,
)
from simroot.training.session import all_in_training, crowded, keep_freed_memory, logging_to, quiet, reproducible
from simroot.training.statistics import FreshStatistics
from simroot.training.summary import finish
from simroot.training.teacher import open_teacher, teacher_config
from simroot.training.trainer import failures_told, make_trainer, require_processors

log = logging.getLogger(__name__)

_Function = TypeVar("_Function", bound=Callable[..., Any])


class StopTraining(Exception):
    """Raised by a callback, it ends a training as Ctrl-C does: ``TrainingInterrupted`` says how to go on."""


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the training; the message says how to go on.

    Attributes:
        path: the run directory.
        signal: ``"SIGINT"`` or ``"SIGTERM"``.
    """

    def __init__(self, message: str, path: Path, signal: str) -> None:
        super().__init__(message)
        self.path, self.signal = path, signal


def _model_once_named(function: _Function) -> _Function:
    """Let the argument ``model`` be given by the name that it once had."""

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        if "model_name" in given:
            given["model"] = given.pop("model_name")
        return function(*args, **given)

    return cast("_Function", call)


@_model_once_named
def train(
    model: own.Network | None,
    data: ImageData,
    recipe: Recipe | None,
    out: str | Path,
    *,
    overrides: Mapping[str, Any] | None = None,
    data_source: Mapping[str, Any] | None = None,
    initial: str | Path | None = None,
    teacher: str | Path | None = None,
    teacher_weights: str | Path | None = None,
    integers: bool = False,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    workers: int | None = None,
    progress: bool = True,
    notes: Sequence[str] = (),
    callbacks: Sequence[Callback] = (),
    logger: Loggers = (),
) -> Run:
    """Train a network and leave all there is to know about it in a run directory.

    The same arguments on the same machine give the same weights, bit for bit, whether or not the training was killed
    and resumed. With several processes every one of them calls this function with the same arguments.

    Args:
        model: a name of ``simroot.models.list_models()``; None for what ``choose`` takes; or a network of your own: a
            builder, which is called as ``simroot.models.register`` says, its name as in ``package.module:builder``, or
            an nn.Module, of which a copy is trained. The run's config.yaml has the name of a builder that can be
            imported; another one, and a module, is handed over again to ``load_run``.
        data: training and validation images.
        recipe: how to train; None for the recipe that the network is registered with, or that ``choose`` takes.
        out: the run directory to make.
        overrides: arguments of the network's builder.
        data_source: the arguments of ``simroot.data.load`` that give ``data``; without them only a resumption that is
            handed the data can go on with the run.
        initial: the weights to start from: a run directory, whose best ones are taken, a safetensors file, such as a
            pre-training's, or a name of ``simroot.list_pretrained()``; random ones if None. What does not fit the
            network starts anew, see ``simroot.training.initial``, and the log names it. The run directory keeps a copy.
        teacher: what the network imitates beside the labels, as far as the recipe's ``distil`` says: a run directory,
            an ``.onnx`` file of simroot export, ``torchvision:NAME`` or ``timm:NAME``, or a name of
            ``simroot.list_pretrained()``.
        teacher_weights: safetensors of a library's network, trained on the classes of ``data`` in their order.
        integers: train the network as what it becomes in integers, see ``quantise``, which sets all that this needs.
        accelerator: of Lightning's Trainer, as the next three: ``"auto"``, ``"cpu"``, ``"gpu"``, ...
        devices: how many, or ``"auto"`` for all (one process on a CPU).
        num_nodes: how many machines.
        strategy: how several devices work together, such as ``"ddp"``.
        workers: threads that decode images ahead, per process; None leaves it to the loader.
        progress: show progress on standard error: a bar on a terminal, a line per epoch elsewhere.
        notes: lines for the log, such as why the network was chosen.
        callbacks: of Lightning's, beside simroot's own; one that raises ``StopTraining`` ends the training.
        logger: Lightning's loggers, by name or as they are: ``"tensorboard"``, ``"csv"``, ``"wandb"``, ``"mlflow"``.
            They get the row of metrics.csv after every epoch, and the recipe.

    Returns:
        The run with the weights of its best epoch.

    Raises:
        ConfigError: for a wrong argument, if ``out`` holds a run already, or if the teacher cannot be used.
        CheckpointError: if ``initial`` cannot be read, or nothing of it fits the network.
        TrainingError: if the loss is not finite, or a file cannot be written.
        TrainingInterrupted: after Ctrl-C or SIGTERM.
    """
    path = Path(out)
    place = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes, "strategy": strategy}
    trainer_options = {**place, "logger": make_loggers(logger, path)}
    with claimed(path):
        if first_process():
            require_free(path)
        if model is None:
            choice = choose(data, initial)
            overrides, recipe = {**choice.overrides, **(overrides or {})}, recipe or choice.recipe
            model, notes = choice.model, (*choice.notes(recipe, overrides), *notes)
        handed = None if isinstance(model, str) else model
        name = own.use(model) if isinstance(model, str) else own.entry(model).name
        recipe = settled(recipe or registered(handed or name), data, teacher)
        recipe = for_data(recipe, data.named, data.image_size)
        start = None if initial is None else place_of(initial)
        taught = teacher_config(teacher, teacher_weights)
        config = make_config(name, overrides or {}, data, data_source, recipe, versions(), start, taught, integers)
        network = _initial_model(config, recipe, None, handed)
        if start is not None:
            notes = (*notes, *start_from(network, config, read_start(start), handed))
        if not torch.cuda.is_available():  # there the memory is another one
            shape, batch = data.preparation.shape, min(recipe.batch_size, len(data.train))
            require_memory(name, lambda: copy.deepcopy(network).to("meta"), shape, batch)
        try:
            if first_process():
                create_run(path, config)
                save_known(path, data)
                keep_images(path, data, data_source)
                if start is not None or isinstance(handed, nn.Module):
                    save_weights(path / INITIAL, network)
            return _fit(
                path,
                config,
                network,
                data,
                recipe,
                None,
                trainer_options,
                handed=handed,
                workers=workers,
                progress=progress,
                notes=notes,
                more=callbacks,
            )
        except TrainingInterrupted:  # a run that can be resumed
            raise
        except BaseException:
            if first_process():
                discard_run(path)
            raise


def resume(
    run_dir: str | Path,
    *,
    model: own.Network | None = None,
    data: ImageData | None = None,
    data_source: Mapping[str, Any] | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    strategy: str = "auto",
    workers: int | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    logger: Loggers = (),
) -> Run:
    """Go on with the run in a directory from its last complete epoch.

    ``data`` is what the run was started with, and ``data_source`` where it lies now if that is another place, which the
    run then records; None loads it again from where it was. ``model`` is as for ``load_run``. The other arguments are
    those of ``train`` and may differ from those that the run was started with.

    Raises:
        CheckpointError: if the directory holds no run, or no checkpoint of it can be read.
        DataError: if the data is not what the run was started with.
        TrainingError, TrainingInterrupted: as ``train``.
    """
    path = Path(run_dir)
    place = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes, "strategy": strategy}
    trainer_options = {**place, "logger": make_loggers(logger, path)}
    config = read_config(path)
    with claimed(path):
        recipe = Recipe.from_dict(config["recipe"])
        if data is None:
            source = data_arguments(config)
            if source is None:
                raise CheckpointError(f"{path} does not say where its data came from; pass the data to resume")
            data = datasets.load(**source)
        check_same_data(config, data, path)
        recipe = for_data(recipe, data.named, data.image_size)  # decided, unless somebody has edited the file
        if data_source is not None and first_process():
            record_source(path, config, data_source)
        warn_of_other_versions(config.get("versions", {}))
        if first_process():
            remove_torn(path)
        started = path / INITIAL if config["model"].get("initial") or (path / INITIAL).exists() else None
        network = _initial_model(config, recipe, started, model)
        checkpoint = newest_checkpoint(path, network, recipe)
        if checkpoint is not None:
            mend = checkpoint.name == BEST and first_process()  # an interruption may have come between the two
            if mend:
                load_weights(checkpoint, network)
                save_weights(path / WEIGHTS, network)
            load_weights(checkpoint, network, raw=True)
            if mend and recipe.ema:
                save_weights(path / RAW, network)
        return _fit(
            path,
            config,
            network,
            data,
            recipe,
            checkpoint,
            trainer_options,
            handed=model,
            workers=workers,
            progress=progress,
            more=callbacks,
        )


def _fit(
    path: Path,
    config: Mapping[str, Any],
    model: nn.Module,
    data: ImageData,
    recipe: Recipe,
    checkpoint: Path | None,
    trainer_options: Mapping[str, Any],
    *,
    handed: own.Network | None,
    workers: int | None,
    progress: bool,
    notes: Sequence[str] = (),
    more: Sequence[Callback] = (),
) -> Run:
    console = Console(stderr=True)
    keep_freed_memory()
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if recipe.compile:
        model.compile()
    teacher = open_teacher(config["teacher"], data) if config.get("teacher") else None
    callbacks: list[Callback] = [RunWriter(path), Averaging(), StatisticsWarning(), *more]
    if not config.get("integers"):  # there the statistics are part of the weights
        callbacks.append(FreshStatistics())
    if progress and console.is_terminal and first_process():
        callbacks.append(ProgressBar(console))
    with ExitStack() as stack:
        if first_process():  # one of several speaks
            stack.enter_context(logging_to(path / LOG, console if progress else None))
        stack.enter_context(quiet())
        integers = None
        if data.multi_label and checkpoint is None and start_at_shares(model, data):
            log.info("scores start at the shares of the images that have each class")
        if config.get("integers"):
            integers = open_integers(path, model, data, recipe, begun=checkpoint is not None)
        module = ClassificationModule(model, data, recipe, workers, teacher, integers)
        trainer = make_trainer(path, recipe, callbacks, trainer_options)
        require_processors(trainer)
        stack.enter_context(reproducible(trainer.strategy.root_device))
        for note in notes:
            log.info(note)
        log.info(
            "%s: %s on %s, %d training and %s, %s",
            "starting" if checkpoint is None else f"going on from {checkpoint.name}",
            config["model"]["name"],
            data.name,
            len(data.train),
            counted(len(data.val), "validation image"),
            counted(recipe.epochs, "epoch"),
        )
        on_cpu = trainer.strategy.root_device.type == "cpu"
        if on_cpu and (words := crowded(torch.get_num_threads())):
            log.warning("%s", words)
        for line in filter(None, (*class_lines(data), streamed_line(data))):
            log.info("%s", line)
        for note in data.notes:
            log.warning("%s", note)
        if uneven := uneven_line(data):
            log.info("%s; recipe field balance is %s (loss and sampler make them count alike)", uneven, recipe.balance)
        log.info(
            "training images are %s (recipe field mirror: true or false)",
            "mirrored at random" if recipe.mirror else "not mirrored",
        )
        if teacher is not None:
            size = " x ".join(map(str, teacher.shape))
            log.info("%.0f%% of the loss imitates %s, which sees images of %s", 100 * recipe.distil, teacher.name, size)
        all_in_training(model)
        if on_cpu:
            guard(model)
            stack.callback(unguard, model)
        if recipe.accelerate and not recipe.compile and on_cpu and native():
            stack.callback(restore, model)
            if found := acceleration(accelerate(model)):
                log.info("native kernels train %s (recipe field accelerate: true or false)", found.in_words())
        try:
            with failures_told(config["model"]["name"], recipe, data):
                trainer.fit(module, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
                if trainer.is_global_zero:
                    finish(load_run(path, model=handed), module.history, data, trainer.strategy.root_device)
        except (SystemExit, KeyboardInterrupt, StopTraining) as error:
            signal = "SIGTERM" if trainer.received_sigterm else "SIGINT"
            raise _interrupted(path, signal, module, config["model"]["name"]) from error
    return load_run(path, model=handed)


def _interrupted(path: Path, signal: str, module: ClassificationModule, name: str) -> TrainingInterrupted:
    done, epochs = len(module.history), module.recipe.epochs
    when = f"in epoch {done + 1} of {epochs}" if done < epochs else f"after {counted(epochs, 'epoch')}"
    again = resume_command(path, name)
    return TrainingInterrupted(
        f"stopped by {signal} {when}; {path} keeps the {done} before. To go on: {again}", path, signal
    )


def _initial_model(
    config: Mapping[str, Any], recipe: Recipe, weights: Path | None, handed: own.Network | None
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = build_model(config, own.given(handed))
    if weights is not None:
        if not weights.is_file():
            raise CheckpointError(f"{weights} does not exist; it held the weights that the run started from")
        load_weights(weights, model)
    return model
