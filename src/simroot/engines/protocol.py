"""What an engine is: a program that runs networks, from files or PyTorch's own; on the CPU, in float32."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from simroot.errors import ConfigError

Shape = tuple[int | None, ...]
"""Lengths, the batch first; None for one that is open."""


@dataclass(frozen=True)
class Loaded:
    """A network that is ready to run in its engine.

    Attributes:
        bind: a batch -> a call that runs it, again and again, as fast as the engine can. It gives the engine's result.
        scores: turns that into a float32 array (N, classes).
        inputs: their shapes; none where the engine does not know.
        outputs: likewise.
        kind: type of the input, ``"uint8"``, ``"float32"``, or the engine's word for another.
        precision: of the arithmetic, as the engine reports it.
        threads: what the engine says that it uses; None if it does not say.
        weights: bytes of the weights that were in memory before the engine was asked to run.
        properties: a file's metadata.
    """

    bind: Callable[[NDArray[Any]], Callable[[], Any]]
    scores: Callable[[Any], NDArray[np.float32]]
    inputs: tuple[Shape, ...] = ()
    outputs: tuple[Shape, ...] = ()
    kind: str = "float32"
    precision: str = "f32"
    threads: int | None = None
    weights: int = 0
    properties: Mapping[str, str] = field(default_factory=dict)

    def run(self, batch: NDArray[Any]) -> NDArray[np.float32]:
        """The scores of a batch, float32 (N, classes)."""
        return self.scores(self.bind(batch)())


class Engine(ABC):
    """One engine; a new one is a file beside the others and its name in ``simroot.engines.table``.

    Attributes:
        name: what ``--engine`` and the tables call it.
        suffixes: of the files that it reads, its own first; none for an engine that runs PyTorch's networks.
        package: of Python, which must be installed; none for an engine that needs something else.
        extra: of simroot's, which brings the package.
        inside: name of a file that the folder which it lies in may stand for; none for most.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    inside: ClassVar[str] = ""

    @abstractmethod
    def load(self, source: Any, threads: int | None = None, shape: tuple[int, ...] | None = None) -> Loaded:
        """Load a network. Errors of files may be of any class: ``load_file`` puts them into words.

        Args:
            source: the path of a file with one of ``suffixes``, or a network of PyTorch's.
            threads: inside an operation; None leaves it to the engine.
            shape: of all batches, if it is known: some engines are faster then.
        """

    def require(self) -> ModuleType:
        """The package.

        Raises:
            ConfigError: saying how to install it, if it is not installed.
        """
        return library(self.package, self.extra, f"engine {self.name}")

    def using(self, threads: int) -> AbstractContextManager[None]:
        """Around all that runs with so many threads: what the whole process must be set to."""
        return nullcontext()


def library(name: str, extra: str = "export", called: str | None = None) -> ModuleType:
    """A package of the extras, which is loaded when it is needed.

    Raises:
        ConfigError: saying how to install it, if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        what = f"{called or name} is not installed"
        raise ConfigError(f"{what}; install it with pip install 'simroot[{extra}]'") from error


def fits(declared: Shape, shape: tuple[int, ...]) -> bool:
    """Whether a batch may be given to an input."""
    return len(declared) == len(shape) and all(
        length in (None, given) for length, given in zip(declared, shape, strict=True)
    )
