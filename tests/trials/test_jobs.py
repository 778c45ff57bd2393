"""Trainings side by side: where they go, what they say, and that they are those of one after the other."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import safetensors.torch
import torch
from joblib.externals.loky import BrokenProcessPool

from simroot.errors import ConfigError
from simroot.training import TrainingInterrupted
from simroot.training.fit import StopTraining
from simroot.training.module import ClassificationModule
from simroot.trials import clusters
from simroot.trials import jobs as module
from simroot.trials.board import Board, Progress, Reporter
from simroot.trials.clusters import Jobs, Place, opened
from simroot.trials.display import Display
from simroot.trials.jobs import Outcome, Task, complete_all
from simroot.trials.runs import Runs, Trial
from trials.standins import Trainings, images, trial


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs in threads of this process, where the stand-ins are."""

    @contextmanager
    def opened(jobs: Jobs, shared: object) -> Iterator[Place]:
        yield Place({"backend": "threading"}, 2, torch.get_num_threads())

    monkeypatch.setattr(module, "opened", opened)


@pytest.mark.usefixtures("in_threads")
def test_each_training_has_its_own_directory(trainings: Trainings, tmp_path: Path) -> None:
    wanted = [trial(), trial(overrides={"channels": 4}), trial(overrides={"channels": 6}), trial(1), trial()]
    folder = Runs(tmp_path, trainings.data, None)
    assert complete_all(folder, wanted, Jobs(2), {}) == []
    stem = "nin_compact-noise-2-epochs-seed"
    paths = [folder.finished(each) for each in wanted]
    assert paths == [tmp_path / f"{stem}-{end}" for end in ("0", "0-2", "0-3", "1", "0")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in set(paths) if path)
    assert complete_all(folder, wanted, Jobs(2), {}) == []
    assert len(trainings.asked) == 4


@pytest.mark.usefixtures("in_threads")
@pytest.mark.parametrize("error", [ConfigError("too\nsmall"), RuntimeError("too\nsmall")])
def test_one_that_fails_does_not_end_the_others(
    trainings: Trainings,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def train(model: str, *arguments: Any, **options: Any) -> Any:
        if model == "nonet":
            raise error
        return trainings.train(model, *arguments, **options)

    monkeypatch.setattr("simroot.training.train", train)
    bad = Trial("nonet", trial().recipe)
    monkeypatch.setattr(Runs, "find", lambda self, each: None)
    with caplog.at_level(logging.INFO, "simroot"):
        assert complete_all(Runs(tmp_path, trainings.data, None), [bad, trial(), trial(1)], Jobs(2), {}) == [bad]
    assert [what for what, _ in trainings.asked] == ["train", "train"]
    (said,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert said.startswith("nonet, seed 0 is left out: ")
    assert "small" in said


@pytest.mark.usefixtures("in_threads")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_stops_all(trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    begun: list[Path] = []

    def train(model: str, data: Any, chosen: Any, out: Path, **options: Any) -> Any:
        (report,) = options["callbacks"]
        out.mkdir()
        begun.append(out)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.Signals[name])
        while not report.board.stopped:
            time.sleep(0.01)
        raise TrainingInterrupted("stopped", out, "SIGINT")

    monkeypatch.setattr("simroot.training.train", train)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match=f"by {name}; .* keeps 2 trainings. To go on: the same") as stopped:
        complete_all(Runs(tmp_path, trainings.data, None), [trial(seed) for seed in range(5)], Jobs(2), {})
    assert (stopped.value.path, stopped.value.signal) == (tmp_path, name)
    assert len(begun) == 2
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("returns", ["list", "generator_unordered"])
def test_ctrl_c_is_heard_while_outcomes_are_awaited(
    trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returns: Any
) -> None:
    """Threads that start meanwhile inherit which signals are held."""
    held: list[bool] = []

    def train(model: str, data: Any, chosen: Any, out: Path, **options: Any) -> Any:
        held.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
        raise ConfigError("no training")

    monkeypatch.setattr("simroot.training.train", train)
    place = Place({"backend": "threading"}, 2, torch.get_num_threads(), returns)
    monkeypatch.setattr(module, "opened", lambda jobs, shared: nullcontext(place))
    complete_all(Runs(tmp_path, trainings.data, None), [trial(seed) for seed in range(2)], Jobs(2), {})
    assert held == [returns != "list"] * 2


def test_a_worker_of_a_cluster_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    class Died(Exception):
        """Ray's word for it."""

    ray = SimpleNamespace(
        init=lambda **options: None,
        shutdown=lambda: None,
        cluster_resources=lambda: {"CPU": 2.0},
        exceptions=SimpleNamespace(RayError=Died),
        util=SimpleNamespace(),
    )
    backend = SimpleNamespace(register_ray=lambda: None)
    for name, found in {"ray": ray, "ray.util": ray.util, "ray.util.joblib": backend}.items():
        monkeypatch.setitem(sys.modules, name, cast(Any, found))
    message = (
        r"a training on ray:auto was lost, perhaps for want of memory \(The actor died\); the same command goes on"
    )
    died = Died("The actor\ndied")
    with pytest.raises(ConfigError, match=message), opened(Jobs(cluster="ray:auto"), None):
        raise died


def test_a_process_that_dies_ends_no_other(
    trainings: Trainings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pool of processes ends with the one that dies: those beside it are tried alone, the rest goes on."""
    asked: list[list[int]] = []

    def run(folder: Runs, tasks: Sequence[Task], board: Board, *where: Any) -> Iterator[Outcome]:
        asked.append([task.number for task in tasks])
        for task in tasks[:2]:
            board.write(task.number, Progress(0.1, 0, 2))
        for task in tasks:
            if task.number == 1:
                raise BrokenProcessPool("killed")
            if len(tasks) != 4 or task.number == 3:
                yield Outcome(task.number, path=task.out)

    monkeypatch.setattr(module, "_run", run)
    wanted = [trial(seed) for seed in range(4)]
    assert complete_all(Runs(tmp_path, trainings.data, None), wanted, Jobs(2), {}) == [wanted[1]]
    assert asked == [[0, 1, 2, 3], [0], [1], [2, 3]]
    assert "seed 1 is left out: its process was killed, perhaps for want of memory" in caplog.text


@pytest.mark.parametrize("terminal", [False, True])
def test_the_display(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    terminal: bool,
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    display, board = Display(Board(tmp_path), {0: "[one]", 1: "two"}), Board(tmp_path)
    with caplog.at_level(logging.INFO, "simroot"), display.shown():
        board.write(0, Progress(0.5, 1, 2, 0.75))
        display._look()
        display._look()
        display.finished.add(0)
        board.stop()
        display._look()
    said = [record.getMessage() for record in caplog.records]
    shown = capsys.readouterr().err
    lines = ["[one]: epoch 1/2, validation accuracy 75.00%"] * (not terminal)
    assert said == [*lines, "stopping 0 trainings; once more ends them at once"]
    assert ("all trainings" in shown, "1 of 2 done" in shown) == (terminal, terminal)


@pytest.mark.parametrize(("done", "part"), [(0, 0.5), (1, 0.75)])
def test_what_a_training_reports(tmp_path: Path, done: int, part: float) -> None:
    network = ClassificationModule.__new__(ClassificationModule)
    network.__dict__.update(history=[{"val_accuracy": 0.5}] * done, recipe=SimpleNamespace(epochs=2))
    trainer = SimpleNamespace(num_training_batches=4, current_epoch=done)
    board = Board(tmp_path)
    assert board.read(3) is None
    reporter = Reporter(board, 3)
    reporter.on_train_batch_end(cast(Any, trainer), cast(Any, network), None, None, 3 if done == 0 else 1)
    assert board.read(3) == Progress(part, done, 2, 0.5 if done else None)
    assert str(board.read(3)) == f"epoch {done}/2{', validation accuracy 50.00%' * done}"


@pytest.mark.parametrize("reason", ["stop", "folder", "starter"])
def test_what_ends_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    board = Board(tmp_path / "board")
    board.folder.mkdir()
    reporter = Reporter(board, 0)
    if reason == "stop":
        board.stop()
    elif reason == "folder":
        board.folder.rmdir()
    else:
        monkeypatch.setattr(os, "getppid", lambda: -1)
    with pytest.raises(StopTraining):
        reporter.on_validation_batch_end(cast(Any, None), cast(Any, None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "jobs is 0; expected a whole number of at least 1"),
        ({"cluster": "tcp://host:1"}, "cluster is 'tcp://host:1'; expected dask:ADDRESS"),
        ({"cluster": "dask:"}, "cluster is 'dask:'; expected dask:ADDRESS"),
    ],
)
def test_jobs_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Jobs(**changes)


def test_threads_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    for jobs, threads in ((Jobs(3), 2), (Jobs(16), 1), (Jobs(2, threads=3), 3)):
        with opened(jobs, None) as place:
            assert place.threads == threads


@pytest.mark.parametrize(
    ("address", "library", "extra"), [("dask:tcp://host:1", "distributed", "cluster"), ("ray:host:1", "ray", "ray")]
)
def test_a_cluster_without_its_library(address: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    message = rf"needs {library}, which is not installed; pip install 'simroot\[{extra}\]'"
    with pytest.raises(ConfigError, match=message), opened(Jobs(cluster=address), None):
        pass


def weights(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.parent.name: safetensors.torch.load_file(path) for path in folder.glob("*/model.safetensors")}


def assert_same(one: Path, other: Path) -> None:
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    for name, tensors in expected.items():
        assert all(torch.equal(tensors[key], found[name][key]) for key in tensors), name


@pytest.mark.slow
def test_stopped_and_resumed_they_are_those_of_one_after_the_other(tmp_path: Path) -> None:
    data = images()
    options: dict[str, Any] = {"progress": False}
    wanted = [Trial("nin_compact", trial(seed).recipe, {"channels": 4}) for seed in (0, 1)]
    wanted = [Trial(each.model, each.recipe.from_dict(each.recipe.to_dict() | {"epochs": 40})) for each in wanted]
    alone, beside = Runs(tmp_path / "alone", data, None), Runs(tmp_path / "beside", data, None)
    for each in wanted:
        alone.complete(each, **options)

    def interrupt() -> None:
        while len(list(beside.folder.glob("*/metrics.csv"))) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=interrupt, daemon=True)
    timer.start()
    with pytest.raises(TrainingInterrupted, match="keeps 2 trainings"):
        complete_all(beside, wanted, Jobs(2, threads=torch.get_num_threads()), options)
    timer.join()
    assert len(list(beside.folder.glob("*/summary.json"))) < 2  # one may have been quicker than the other began
    assert complete_all(beside, wanted, Jobs(2, threads=torch.get_num_threads()), options) == []
    assert_same(beside.folder, alone.folder)


@contextmanager
def dask_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    # A busy machine may take its time.
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "120s")
    monkeypatch.setattr(clusters, "_PATIENCE", 120)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "120s"}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
    ):
        yield f"dask:{cluster.scheduler_address}"


@contextmanager
def ray_cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="needs ray")
    nodes = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        nodes.add_node(num_cpus=1)
        yield f"ray:{nodes.address}"
    finally:
        nodes.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [dask_cluster, ray_cluster])
@pytest.mark.filterwarnings("ignore")  # of libraries that are guests here
def test_on_a_cluster_of_two_workers(
    cluster: Callable[[pytest.MonkeyPatch], AbstractContextManager[str]],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = images()
    options: dict[str, Any] = {"progress": False}
    wanted = [trial(seed) for seed in (0, 1)]
    with cluster(monkeypatch) as address:
        alone, beside = Runs(tmp_path / "alone", data, None), Runs(tmp_path / "beside", data, None)
        for each in wanted:
            alone.complete(each, **options)
        jobs = Jobs(cluster=address, threads=torch.get_num_threads())
        with caplog.at_level(logging.INFO, "simroot"):
            assert complete_all(beside, wanted, jobs, options) == []
    assert "2 trainings, 2 at a time" in caplog.text
    assert_same(beside.folder, alone.folder)
