"""Where trainings side by side run: processes of this machine, or a cluster that joblib has a backend for."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import torch

from simroot.errors import ConfigError, is_whole, quoted

_PATIENCE = 15  # seconds for a scheduler to answer


@dataclass(frozen=True)
class Jobs:
    """How many trainings run at a time, and where.

    Attributes:
        count: so many; None for one on this machine, or one for each worker of the cluster.
        threads: of each; None for its share of this machine's, or one on a cluster.
        cluster: ``"dask:ADDRESS"`` of a scheduler or ``"ray:ADDRESS"`` of a head whose workers see the same folders
            under the same names; None for processes on this machine.

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
            raise ConfigError(
                f"cluster is {quoted(self.cluster)}; expected dask:ADDRESS, as in dask:tcp://host:8786, or "
                "ray:ADDRESS, as in ray:host:6379"
            )

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
        returns: joblib's ``return_as``: outcomes as they come, or all at the end.
    """

    backend: dict[str, Any]
    count: int
    threads: int
    returns: Literal["generator_unordered", "list"] = "generator_unordered"


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
        with CLUSTERS[kind](address, shared) as place:
            count = min(jobs.count or place.count, place.count)
            yield replace(place, count=count, threads=jobs.threads or place.threads)


@contextmanager
def _dask(address: str, shared: object) -> Iterator[Place]:
    with _brought("dask", address, "cluster"):
        from distributed import Client, KilledWorker
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`, and workers with "
            "`dask worker ADDRESS --nthreads 1`"
        ) from error
    with client, _lost("dask", address, KilledWorker):
        threads = client.nthreads().values()
        if not threads:
            raise ConfigError(f"the Dask cluster at {address} has no worker; start some with --nthreads 1")
        if max(threads) > 1:
            raise ConfigError(
                f"a worker of the Dask cluster at {address} takes {max(threads)} tasks at a time, but one process "
                "trains one network; start the workers with --nthreads 1, and more of them"
            )
        yield Place({"backend": "dask", "client": client, "scatter": [shared]}, len(threads), 1)


@contextmanager
def _ray(address: str, shared: object) -> Iterator[Place]:
    with _brought("ray", address, "ray"):
        import ray
        from ray.util.joblib import register_ray
    try:
        _reach(address)
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"no Ray head answers at {address} ({error}); start one with `ray start --head`, and workers with "
            "`ray start --address ADDRESS`"
        ) from error
    try:
        register_ray()
        workers = int(ray.cluster_resources().get("CPU", 0))
        if not workers:
            raise ConfigError(f"the Ray cluster at {address} has no CPU; start a worker with --num-cpus")
        with _lost("ray", address, ray.exceptions.RayError):
            yield Place({"backend": "ray"}, workers, 1, "list")  # joblib's backend gives nothing as it comes
    finally:
        ray.shutdown()


def _reach(address: str) -> None:
    """Ray itself asks an address where nobody listens again and again, for minutes."""
    where = urlsplit(address if "://" in address else f"ray://{address}")
    if where.hostname and where.port:
        socket.create_connection((where.hostname, where.port), timeout=_PATIENCE).close()


@contextmanager
def _lost(kind: str, address: str, error: type[Exception]) -> Iterator[None]:
    """One line about a worker that has died, or cannot be reached any more."""
    try:
        yield
    except error as lost:
        reason = " ".join(str(lost).split()) or type(lost).__name__
        raise ConfigError(
            f"a training on {kind}:{address} was lost, perhaps for want of memory ({reason}); the same command goes on "
            "with what is left"
        ) from lost


@contextmanager
def _brought(kind: str, address: str, extra: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"cluster {kind}:{address} needs {error.name}, which is not installed; pip install 'simroot[{extra}]' "
            "brings it"
        ) from error


CLUSTERS: dict[str, Callable[[str, object], AbstractContextManager[Place]]] = {"dask": _dask, "ray": _ray}
