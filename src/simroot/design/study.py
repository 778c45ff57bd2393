"""A search for the best network within a budget: Optuna proposes networks, and trainings that lag behind end early.

Every trial is the widest network of a family within the budget with choices of its own (``Family.choices``), and a
learning rate. It is trained on seven eighths of the training images and judged on the others, so that the validation
images stay unseen. Successive halving compares trainings after a ninth and a third of the epochs: only the best third
goes on. Those go on as they are, nothing is trained twice.
"""

from __future__ import annotations

import importlib
import json
import logging
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import Callback

from simroot.data import ImageData
from simroot.data.splits import stratified
from simroot.design.budgets import Budget
from simroot.design.search import CANDIDATES, require_families
from simroot.design.tasks import deployed, task_of
from simroot.design.times import Times
from simroot.errors import CheckpointError, ConfigError, TrainingError, one_line
from simroot.measure import count
from simroot.training.claim import InUseError, claimed
from simroot.training.run import data_config, read_config
from simroot.trials.networks import Network
from simroot.trials.runs import Runs, command, row

if TYPE_CHECKING:
    import lightning as L
    import optuna

log = logging.getLogger(__name__)

# A family's name and its choices -> the widest network within the budget.
Sized = Callable[[str, tuple[tuple[str, Any], ...]], Network]

_NAME = "simroot design"

# Images that are judged by: one in so many of the training images.
_JUDGED = 8
# A learning rate is the network's usual one times a factor between the inverse of this and this.
_RATES = 4.0
# One in so many of the trainings that come to a rung goes on; the first rung is after the inverse square of the epochs.
_REDUCTION = 3
# Proposals that no network is for, in a row, until the search is given up.
_UNFIT = 20

# Optuna's parameters beside the families' choices.
FAMILY, RATE = "family", "learning rate"
# What the study knows of a trial beside Optuna's own: what it trained, and who is at it.
NETWORK, _PLACE, _AGAIN, _NONE = "network", "place", "to be taken up", "nothing fits"


def parameter(family: str, choice: str) -> str:
    """What Optuna calls a family's choice."""
    return f"{family}: {choice}"


def open_study(url: str | None, folder: Path, seed: int) -> optuna.Study:
    """The study in a database, or in the file ``search.journal`` of a folder; a new one if there is none.

    Args:
        url: of a database, as SQLAlchemy takes it, such as ``sqlite:///search.db``; None for the file.
        folder: of the file.
        seed: of the proposals.

    Raises:
        ConfigError: if Optuna is not installed, or the database or file cannot be opened.
    """
    optuna = _optuna()
    try:
        if url is None:
            folder.mkdir(parents=True, exist_ok=True)
            journal = importlib.import_module("optuna.storages.journal")
            storage = optuna.storages.JournalStorage(journal.JournalFileBackend(str(folder / "search.journal")))
        else:
            storage = optuna.storages.RDBStorage(url)
        study = optuna.create_study(study_name=_NAME, storage=storage, direction="maximize", load_if_exists=True)
    except Exception as error:  # of Optuna, SQLAlchemy, a database's driver, or JSON
        place = url or folder / "search.journal"
        raise ConfigError(f"the study {place} cannot be opened: {one_line(str(error))}") from error
    # Several processes that share a study must not propose the same.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), constant_liar=True)
    return study


def search(
    study: optuna.Study,
    budget: Budget,
    data: ImageData,
    families: Sequence[str],
    *,
    number: int,
    epochs: int,
    seed: int,
    runs: Path,
    source: Mapping[str, Any],
    **options: Any,
) -> None:
    """Train until the study has so many trials, those of other processes among them.

    A trial that was interrupted is taken up first. One whose training fails is left out and named in the log.

    Args:
        study: of ``open_study``.
        budget: what the networks must be within.
        data: images; the training images are split once more.
        families: names of ``simroot.design.search.CANDIDATES``.
        number: of trials.
        epochs: of every training that is not ended early.
        seed: of the trainings.
        runs: folder of run directories.
        source: arguments of ``simroot.data.load`` that give the data.
        **options: where and how to train, as for ``simroot.training.train``.

    Raises:
        ConfigError: for an unknown family, a study of another search, or a budget that no network is within.
        TrainingInterrupted: after Ctrl-C; the same call goes on.
    """
    optuna = _optuna()
    require_families(families)
    part = judged_part(data)
    _require_same(study, budget, part, families, epochs)
    study.pruner = optuna.pruners.SuccessiveHalvingPruner(
        min_resource=max(1, epochs // _REDUCTION**2), reduction_factor=_REDUCTION
    )
    _take_up(study)
    # As long as it is claimed, this process is alive.
    place = (runs / f".search-{uuid.uuid4().hex}").resolve()
    with claimed(place):
        folder, times, unfit = Runs(runs, part, None), Times(task_of(part)), 0

        @cache
        def sized(name: str, choices: tuple[tuple[str, Any], ...]) -> Network:
            return CANDIDATES[name].chosen(dict(choices), budget, times.task, times)

        while _trials(study) < number:
            trial = study.ask()
            trial.set_user_attr(_PLACE, [socket.gethostname(), str(place)])
            try:
                network, rate = _proposed(trial, families, sized)
            except ConfigError as error:
                unfit += 1
                trial.set_user_attr(_NONE, str(error))
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                if unfit >= _UNFIT:
                    raise ConfigError(f"{unfit} proposals in a row do not fit, the last since {error}") from error
                continue
            unfit = 0
            _complete(study, trial, network, rate, folder, source, epochs=epochs, seed=seed, **options)


def judged_part(data: ImageData) -> ImageData:
    """Seven eighths of the training images to train on, and the others as validation images."""
    judged, others = stratified(data.train.labels, max(1, len(data.train) // _JUDGED), seed=0)
    return replace(data, train=data.train.subset(others), val=data.train.subset(judged))


def _proposed(trial: optuna.Trial, families: Sequence[str], sized: Sized) -> tuple[Network, float]:
    name = trial.suggest_categorical(FAMILY, list(families))
    choices = {
        choice: trial.suggest_categorical(parameter(name, choice), list(values))
        for choice, values in CANDIDATES[name].choices.items()
    }
    factor = trial.suggest_float(RATE, 1 / _RATES, _RATES, log=True)
    network = sized(name, tuple(choices.items()))
    return network, float(f"{factor * network.usual_rate:.3g}")


class _Halving(Callback):
    """Tells a trial the epochs that are written, and ends its training where others were better."""

    def __init__(self, trial: optuna.Trial) -> None:
        self.trial = trial

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Before the next epoch; of a training that is resumed, before the first."""
        history: Any = pl_module.history
        if history:
            _report(self.trial, [epoch["val_accuracy"] for epoch in history])
            if self.trial.should_prune():
                raise _optuna().TrialPruned


def _report(trial: optuna.Trial, curve: Sequence[float]) -> None:
    """Accuracies by epoch, those alone that the trial does not know."""
    known = trial.study.trials[trial.number].intermediate_values
    for epoch, accuracy in enumerate(curve, start=1):
        if epoch not in known:
            trial.report(accuracy, epoch)


def _complete(
    study: optuna.Study,
    trial: optuna.Trial,
    network: Network,
    rate: float,
    folder: Runs,
    source: Mapping[str, Any],
    *,
    epochs: int,
    seed: int,
    **options: Any,
) -> None:
    optuna = _optuna()
    states = optuna.trial.TrialState
    planned = network.trial(epochs, seed, learning_rate=rate)
    task = task_of(folder.data)
    cost = count(deployed(network.model, network.overrides, task), task.input_size)
    facts = {
        "family": network.name,
        "model": network.model,
        "overrides": dict(network.overrides),
        "learning_rate": rate,
        "parameters": cost.parameters,
        "macs": cost.macs,
    }
    trial.set_user_attr(NETWORK, facts)
    try:
        path = folder.complete(planned, callbacks=[_Halving(trial)], **options)
        config, figures = read_config(path), row(path)
        _report(trial, figures["validation_accuracy_by_epoch"])
        again = command({**config, "data": {**config["data"], "source": source}})
        trial.set_user_attr(NETWORK, {**facts, "command": again, "run": str(path.resolve())})
        study.tell(trial, float(figures["accuracy"]))
        found, best = 100 * float(figures["accuracy"]), 100 * study.best_value
        log.info("trial %d: %s: %.2f %%, the best so far %.2f %%", trial.number, planned.name, found, best)
    except optuna.TrialPruned:
        study.tell(trial, state=states.PRUNED)
        log.info("trial %d: %s: ended early", trial.number, planned.name)
    except (TrainingError, ConfigError, CheckpointError) as error:
        study.tell(trial, state=states.FAIL)
        log.warning("trial %d: %s is left out: %s", trial.number, planned.name, error)
    except KeyboardInterrupt:
        _put_back(study, trial.number, trial.params)
        raise


def _require_same(study: optuna.Study, budget: Budget, part: ImageData, families: Sequence[str], epochs: int) -> None:
    """Refuse a study of another search: its accuracies are no measure of this one's."""
    known = data_config(part, None)
    images = {key: known[key] for key in ("classes", "image_size", "channels", "train", "val")}
    images["mean"] = [round(value, 3) for value in known["mean"]]  # decoders differ in the last digits
    asked = {"budget": str(budget), "images": images, "families": list(families), "epochs": epochs}
    asked = json.loads(json.dumps(asked))
    before = study.user_attrs.get("search")
    if before is None:
        study.set_user_attr("search", asked)
    elif others := [key for key in asked if before.get(key) != asked[key]]:
        raise ConfigError(
            f"the study is of a search with other {' and '.join(others)}; choose other --results or another --study, "
            "or what it was begun with"
        )


def _trials(study: optuna.Study) -> int:
    """Those that trained, or are at it; what was taken up again counts once."""
    again = {trial.user_attrs.get(_AGAIN) for trial in study.trials}
    counted = [trial for trial in study.trials if trial.state.name != "WAITING" and trial.number not in again]
    return sum(_NONE not in trial.user_attrs for trial in counted)


def _take_up(study: optuna.Study) -> None:
    """Put back what a process of this machine was at that is no more."""
    for trial in study.trials:
        host, place = trial.user_attrs.get(_PLACE, (None, ""))
        if trial.state.name == "RUNNING" and host == socket.gethostname() and not _in_use(Path(place)):
            _put_back(study, trial.number, trial.params)


def _put_back(study: optuna.Study, number: int, params: Mapping[str, Any]) -> None:
    """Have the next trial be this one: its run is found and resumed."""
    study.tell(number, state=_optuna().trial.TrialState.FAIL)
    study.enqueue_trial(dict(params), user_attrs={_AGAIN: number})


def _in_use(place: Path) -> bool:
    try:
        with claimed(place):
            return False
    except InUseError:
        return True


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("a search needs Optuna, which is not installed: pip install 'simroot[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # simroot's log says what it would
    return optuna
