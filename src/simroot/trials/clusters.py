"""Where trainings side by side run: processes of this machine, or a cluster that joblib has a backend for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from simroot.errors import ConfigError, is_whole, quoted

_PATIENCE = 15  # seconds for a scheduler to answer


@dataclass(frozen=True)
class Jobs:
    """How many trainings run at a time, and where.

    Attributes:
        count: so many; None for one on this machine, or one for each worker of the cluster.
        threads: of each; None for its share of this machine's, or one on a cluster.
        cluster: ``"dask:ADDRESS"`` of a scheduler whose workers see the same folders under the same names; None for
            processes on this machine.

    Raises:
        ConfigError: for a count or a cluster that cannot be.
    """

    count: int | None = None
    threads: int | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.count is not None and not is_whole(self.count, 1):
            raise ConfigError(f"jobs is {quoted(self.count)}; expected a whole number of at least 1")
        kind, _, address = (self.cluster or "").partition(":")
        if self.cluster is not None and (kind not in CLUSTERS or not address):
            raise ConfigError(f"cluster is {quoted(self.cluster)}; expected dask:ADDRESS, as in dask:tcp://host:8786")

    @property
    def side_by_side(self) -> bool:
        """Whether trainings run in other processes than this one."""
        return self.cluster is not None or (self.count or 1) > 1


@dataclass(frozen=True)
class Place:
    """Where jobs run.

    Attributes:
        backend: arguments of ``joblib.parallel_config``.
        count: jobs at a time.
        threads: of each.
    """

    backend: dict[str, Any]
    count: int
    threads: int


@contextmanager
def opened(jobs: Jobs, shared: object) -> Iterator[Place]:
    """The place of the jobs, which all get the object ``shared``.

    Raises:
        ConfigError: for a cluster that cannot be used.
    """
    if jobs.cluster is None:
        count = jobs.count or 1
        threads = jobs.threads or max(1, torch.get_num_threads() // count)
        yield Place({"backend": "loky", "inner_max_num_threads": threads}, count, threads)
    else:
        kind, _, address = jobs.cluster.partition(":")
        with CLUSTERS[kind](address, shared) as (backend, workers):
            yield Place(backend, min(jobs.count or workers, workers), jobs.threads or 1)


@contextmanager
def _dask(address: str, shared: object) -> Iterator[tuple[dict[str, Any], int]]:
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"cluster dask:{address} needs {error.name}, which is not installed; pip install 'simroot[cluster]' "
            "brings it"
        ) from error
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`, and workers with "
            "`dask worker ADDRESS --nthreads 1`"
        ) from error
    with client:
        threads = client.nthreads().values()
        if not threads:
            raise ConfigError(f"the Dask cluster at {address} has no worker; start some with --nthreads 1")
        if max(threads) > 1:
            raise ConfigError(
                f"a worker of the Dask cluster at {address} takes {max(threads)} tasks at a time, but one process "
                "trains one network; start the workers with --nthreads 1, and more of them"
            )
        yield {"backend": "dask", "client": client, "scatter": [shared]}, len(threads)


CLUSTERS: dict[str, Callable[[str, object], AbstractContextManager[tuple[dict[str, Any], int]]]] = {"dask": _dask}
