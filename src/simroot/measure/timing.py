"""The time that networks take: side by side, in one or more engines, after a check that they compute the same."""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines import ENGINES as _ENGINES
from simroot.engines import Engine, Loaded, find_engine, load_file, readers, told
from simroot.engines import file_input_size as file_input_size
from simroot.errors import ConfigError, DataError, SimrootError, counted
from simroot.measure.memory import peak_growth

if TYPE_CHECKING:
    from torch import nn

ENGINES = tuple(_ENGINES)
"""Names of the engines that there are."""

ENGINE_TOLERANCE = 1e-3
"""Largest difference between the outputs of an engine and of eager float32, as a share of the largest output. Engines
sum in other orders and use other approximations of exp and log: in float32 they differ by 1e-7 to 1e-4, in bfloat16 by
1e-2."""

# In one round every network has one turn. Between turns the threads of the engine before wait for more work without
# sleeping: those of ONNX Runtime for 35 ms, measured, during which they would slow down the next one.
ROUNDS = 10
_PAUSE = 0.05
_REPORT_EVERY = 10.0

Progress = Callable[[str], None]


class MismatchError(SimrootError):
    """An engine's outputs are not those of the network: its time would be that of something else."""


@dataclass(frozen=True)
class Candidate:
    """What is timed: a network, or a file of one, or both.

    Attributes:
        name: what the results call it.
        input_size: shape of one example, without the batch dimension.
        network: runs in any engine; for those that run files it is exported. It stays as it is.
        file: such as ``.onnx``: runs in the engines that read it, instead of the network's own export.
        macs: multiply-accumulates for one example, if known.
    """

    name: str
    input_size: tuple[int, ...]
    network: nn.Module | None = None
    file: Path | None = None
    macs: int | None = None


@dataclass(frozen=True)
class Latency:
    """Time of one network in one engine.

    Attributes:
        model: the candidate's name.
        engine, threads, batch: what was run: threads inside an operation, examples in a batch.
        median: seconds a batch, the median of the repeats.
        quartiles: seconds a batch that a quarter and three quarters of the repeats stay below.
        repeats: timed calls.
        precision: of the arithmetic, as the engine reports it: ``"f32"``.
        error: largest difference from the outputs of the network in eager float32, as a share of the largest output;
            None for a file without a network to compare it with.
        peak_memory: bytes for weights, activations and workspace: by how much the resident memory of the process grew
            at its peak while the engine loaded the file and ran a batch; for the torch engines, while they ran a batch,
            plus the weights. None where the system does not tell.
        macs: multiply-accumulates for one example, if known.
    """

    model: str
    engine: str
    threads: int
    batch: int
    median: float
    quartiles: tuple[float, float]
    repeats: int
    precision: str = "f32"
    error: float | None = None
    peak_memory: int | None = None
    macs: int | None = None

    @property
    def spread(self) -> float:
        """Seconds between the quartiles: half of the repeats lie in this range."""
        return self.quartiles[1] - self.quartiles[0]

    @property
    def milliseconds_per_image(self) -> float:
        """Median of the milliseconds for one example of the batch."""
        return 1e3 * self.median / self.batch

    @property
    def images_per_second(self) -> float:
        """Examples in a second, at the median."""
        return self.batch / self.median

    def as_dict(self) -> dict[str, Any]:
        """All of the above as plain values."""
        derived = ("spread", "milliseconds_per_image", "images_per_second")
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in derived}


def latency(
    model_or_path: nn.Module | str | Path,
    input_size: Sequence[int],
    engine: str = "eager",
    *,
    threads: int = 1,
    batch: int = 1,
    seconds: float = 2.0,
    reference: nn.Module | None = None,
) -> Latency:
    """Time a network, deployed (normalisations folded away), or a file of one, on the CPU in float32.

    Its outputs are checked first against the network's in eager float32 (``ENGINE_TOLERANCE``). Then it is run on the
    same input, N(0,1), until ``seconds`` have passed. In eager and compile the input is channels-last already.

    Args:
        model_or_path: a network, or a file that an engine reads.
        input_size: shape of one example without the batch dimension, (C, H, W), or (C,) for vectors.
        engine: one of ``ENGINES``, such as ``"eager"``, ``"compile"`` (torch.compile) or ``"onnxruntime"``.
        threads: inside an operation.
        batch: examples in a batch.
        seconds: how long to measure.
        reference: the network that the file was made from; without it only the file's shape is checked.

    Raises:
        ConfigError: for a wrong argument, an engine that is not installed, a file that no engine reads, or a network
            that cannot process such inputs.
        ExportError, DataError: for a file that cannot be loaded, or that takes other inputs.
        MismatchError: if the outputs differ.
    """
    if not isinstance(model_or_path, str | Path):
        candidate = Candidate(type(model_or_path).__name__, tuple(input_size), network=model_or_path)
    else:
        if not find_engine(engine).suffixes:
            raise ConfigError(f"{engine} runs networks; received the file {model_or_path}")
        path = Path(model_or_path)
        candidate = Candidate(path.name, tuple(input_size), network=reference, file=path)
    (result,) = compare([candidate], [engine], threads=[threads], batches=[batch], seconds=seconds)
    return result


def compare(
    candidates: Sequence[Candidate],
    engines: Sequence[str] = ("eager",),
    *,
    threads: Sequence[int] = (1,),
    batches: Sequence[int] = (1,),
    seconds: float = 2.0,
    progress: Progress = lambda message: None,
) -> list[Latency]:
    """Time several networks in one run, in every engine that can run them, as ``latency`` does.

    All candidates and engines with the same threads and batch take turns, so that whatever slows the machine down for a
    while hits all of them. A turn is a pause, a call that is not timed, then timed calls; the medians are over all
    timed calls.

    Args:
        candidates: what to time.
        engines: names of engines. A file without a network is left out where the engine does not run it.
        threads: numbers of threads.
        batches: batch sizes.
        seconds: for each candidate and engine, over ``ROUNDS`` turns of at least one timed call.
        progress: receives a line about what is done.

    Returns:
        One for each combination, ordered by threads, batch, engine and candidate.

    Raises:
        ConfigError, ExportError, DataError, MismatchError: as ``latency``.
    """
    _check(candidates, engines, (*threads, *batches), seconds)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = {find_engine(name): list(candidates) for name in engines}
        for engine in chosen:
            for index, candidate in enumerate(candidates):
                if engine.suffixes and candidate.file is None:
                    progress(f"exporting {candidate.name} for {engine.name}")
                    chosen[engine][index] = with_file(candidate, engine.name, Path(folder) / f"{index}-{engine.name}")
        for count in threads:
            for batch in batches:
                with ExitStack() as stack:
                    for engine in chosen:
                        stack.enter_context(engine.using(count))
                    group = [_load(c, engine, count, batch, progress) for engine in chosen for c in chosen[engine]]
                    loaded = [each for each in group if each is not None]
                    results += _take_turns(loaded, seconds, progress)
    if not results:
        raise ConfigError(f"nothing to time: none of the files runs in {', '.join(engines)}")
    return results


@dataclass
class _Loaded:
    """A candidate that is ready to be timed, with what is known of it so far."""

    run: Callable[[], Any]
    latency: Latency


def _check(candidates: Sequence[Candidate], engines: Sequence[str], counts: Sequence[int], seconds: float) -> None:
    for engine in engines:
        find_engine(engine).require()
    if not (candidates and engines and counts):
        raise ConfigError("nothing to time; expected at least one network, engine, number of threads and batch size")
    if wrong := [count for count in counts if not isinstance(count, int) or count < 1]:
        raise ConfigError(f"threads and batch are whole numbers of at least 1; received {wrong[0]!r}")
    if not seconds > 0:
        raise ConfigError(f"seconds is {seconds!r}; expected a number above 0")
    for candidate in candidates:
        if candidate.network is None and candidate.file is None:
            raise ConfigError(f"{candidate.name} has neither a network nor a file; expected at least one")


def with_file(candidate: Candidate, engine: str, path: Path) -> Candidate:
    """The candidate with its network written for an engine that runs files, with simroot's operator where there is one.

    Args:
        candidate: has a network.
        engine: its name.
        path: where to write; it gets the engine's suffix.

    Raises:
        ConfigError, ExportError: as ``simroot.export.to_onnx``.
    """
    from simroot.export.for_engines import write_for

    assert candidate.network is not None
    return dataclasses.replace(
        candidate, file=write_for(find_engine(engine), candidate.network, path, candidate.input_size)
    )


def _load(candidate: Candidate, engine: Engine, threads: int, batch: int, progress: Progress) -> _Loaded | None:
    """Load, check the outputs, measure the memory; None for what the engine does not run."""
    images = np.random.default_rng(0).standard_normal((batch, *candidate.input_size), dtype=np.float32)
    if not engine.suffixes:
        if candidate.network is None:
            return None
        loaded = engine.load(candidate.network, threads, images.shape)
        run = loaded.bind(images)
        _first_run(run, candidate, engine, images)  # what compiling takes is not the network's
        _, grown = peak_growth(run)
    else:
        assert candidate.file is not None
        if candidate.network is None and engine not in readers(candidate.file):
            return None
        file = candidate.file

        def load() -> tuple[Loaded, Callable[[], Any]]:
            loaded = load_file(file, engine, threads, images.shape)
            if loaded.threads not in (None, threads):
                found = counted(loaded.threads or 0, "thread")
                raise ConfigError(f"{engine.name} runs {file.name} with {found}; expected {threads}")
            run = loaded.bind(_input(file, loaded, images))
            with told(file, "run"):
                run()
            return loaded, run

        load()  # the first time, memory for the engine itself would be counted too
        (loaded, run), grown = peak_growth(load)
    error = None if candidate.network is None else _error(candidate, engine, images, loaded, run)
    progress(
        f"{candidate.name} in {engine.name}, {counted(threads, 'thread')}, batch {batch}: "
        + ("no network to compare with" if error is None else f"outputs agree to {error:.0e}")
    )
    memory = None if grown is None else grown + loaded.weights
    facts = (candidate.name, engine.name, threads, batch)
    return _Loaded(run, Latency(*facts, 0.0, (0.0, 0.0), 0, loaded.precision, error, memory, candidate.macs))


def _input(path: Path, loaded: Loaded, images: NDArray[np.float32]) -> NDArray[Any]:
    """The images in the type that a file takes; bytes spread over 0 to 255 where it prepares them itself."""
    if loaded.kind == "float32":
        return images
    if loaded.kind == "uint8":
        return (64 * images + 128).clip(0, 255).astype(np.uint8)
    raise DataError(f"{path} takes inputs of type {loaded.kind}; expected float32 or uint8")


def _first_run(run: Callable[[], Any], candidate: Candidate, engine: Engine, images: NDArray[np.float32]) -> None:
    from simroot.modules import processing

    with processing(f"{candidate.name} cannot be run in {engine.name} on inputs of shape {tuple(images.shape)}"):
        run()


def _error(
    candidate: Candidate, engine: Engine, images: NDArray[np.float32], loaded: Loaded, run: Callable[[], Any]
) -> float:
    """Largest difference between the engine's outputs and the network's, as a share of the largest output."""
    import torch

    from simroot.models import deploy
    from simroot.modules import processing

    assert candidate.network is not None
    with processing(f"the outputs of {candidate.name} in {engine.name} cannot be compared"), torch.inference_mode():
        expected = deploy(candidate.network).cpu().float()(torch.from_numpy(images)).float().numpy()
        found = loaded.scores(run())
    if found.shape != expected.shape:
        raise MismatchError(
            f"the outputs of {candidate.name} in {engine.name} are of shape {found.shape}; expected {expected.shape}"
        )
    difference = float(np.abs(found - expected).max())
    largest = float(np.abs(expected).max())
    if not difference <= ENGINE_TOLERANCE * largest:  # NaN is no agreement
        raise MismatchError(
            f"the outputs of {candidate.name} in {engine.name} differ by up to {difference:.2g} from those of the "
            f"network in eager float32, which reach {largest:.2g}; expected at most {ENGINE_TOLERANCE:g} of that: "
            "not timed"
        )
    return difference / largest if largest else 0.0


def _take_turns(group: Sequence[_Loaded], seconds: float, progress: Progress) -> list[Latency]:
    times: list[list[float]] = [[] for _ in group]
    reported = time.perf_counter()
    for done in range(ROUNDS):
        for loaded, seen in zip(group, times, strict=True):
            time.sleep(_PAUSE)
            seen += _turn(loaded.run, seconds / ROUNDS)
        if time.perf_counter() - reported > _REPORT_EVERY:
            reported = time.perf_counter()
            progress(f"round {done + 1} of {ROUNDS}")
    return [_summary(loaded.latency, seen) for loaded, seen in zip(group, times, strict=True)]


def _turn(run: Callable[[], Any], seconds: float) -> list[float]:
    """Seconds of each call, of as many as take ``seconds`` together, after one that brings the caches back."""
    run()
    times = []
    end = time.perf_counter() + seconds
    while True:
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        times.append(now - start)
        if now >= end:
            return times


def _summary(known: Latency, times: Sequence[float]) -> Latency:
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return dataclasses.replace(known, median=median, quartiles=(lower, upper), repeats=len(times))
