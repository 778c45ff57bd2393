"""Networks within a budget: what fits, and, trained on one's own images, which is best."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

from simroot.data import ImageData
from simroot.data.progress import watched
from simroot.design import frontier
from simroot.design.budgets import Budget
from simroot.design.families import ALL, Family
from simroot.design.tasks import Task, deployed
from simroot.design.times import Times
from simroot.errors import ConfigError
from simroot.export.c.report import Memory, device_memory
from simroot.images.preparation import size_name
from simroot.measure import count
from simroot.trials.experiment import Experiment, Finished, Report
from simroot.trials.networks import Network, accuracy, trained, trials

log = logging.getLogger(__name__)

# What a design looks at: pre-trained networks have the shape of those that start from random weights.
CANDIDATES = {family.name: family for family in ALL if not family.pretrained}


@dataclass(frozen=True)
class Design:
    """A network within a budget.

    Attributes:
        network: its name, model and overrides.
        parameters: of the deployed network.
        macs: multiply-accumulates for one image.
        milliseconds: for one image, measured; None if the budget has no limit of time.
        predicted: what the cost model expected of it.
        memory: of its C export; None if the budget has no limit of a device's memory.
    """

    network: Network
    parameters: int
    macs: int
    milliseconds: float | None = None
    predicted: float | None = None
    memory: Memory | None = None


def design(budget: Budget, task: Task, families: Sequence[str] = tuple(CANDIDATES)) -> list[Design]:
    """The widest network of each family within a budget.

    A family none of whose networks is within it, or that cannot process such images, is left out and named in the log.

    Args:
        budget: what they must be within.
        task: classes and images.
        families: names of ``CANDIDATES``.

    Raises:
        ConfigError: for an unknown family, or if nothing fits.
    """
    require_families(families)
    times = Times(task)
    each = (_design(CANDIDATES[name], budget, task, times) for name in watched(families, "sizing networks"))
    found = [design for design in each if design is not None]
    if not found:
        raise ConfigError(
            f"no network is within {budget} with images of {size_name(task.image_size)} pixels; the log says why"
        )
    return found


def require_families(names: Sequence[str]) -> None:
    """Refuse names that are not of ``CANDIDATES``.

    Raises:
        ConfigError: naming the first.
    """
    if unknown := [name for name in names if name not in CANDIDATES]:
        raise ConfigError(f"unknown family {unknown[0]!r}; known are {'; '.join(CANDIDATES)}")


def _design(family: Family, budget: Budget, task: Task, times: Times) -> Design | None:
    try:
        network = family.at(budget, task, times)
    except ConfigError as error:
        log.warning("%s is left out: %s", family.name, error)
        return None
    model = deployed(network.model, network.overrides, task)
    cost = count(model, task.input_size)
    log.info("%s: %s", network.name, frontier.shape(network))
    found = Design(network, cost.parameters, cost.macs)
    if budget.on_device:
        found = replace(found, memory=device_memory(model, task.input_size, budget.precision))
    if (limit := budget.milliseconds) is None:
        return found
    name, overrides = network.model, network.overrides
    return replace(found, milliseconds=times.of(name, overrides, limit), predicted=times.predicted(name, overrides))


def comparison(budget: Budget, networks: Sequence[Network]) -> Experiment:
    """What trains the networks of a budget and ranks them."""

    def report(finished: Sequence[Finished], data: ImageData) -> Report:
        found = frontier.report({str(budget): networks}, finished, data)
        return replace(found, markdown=f"{found.markdown}\n\n{_next(trained(networks, finished).values())}")

    return Experiment(f"Networks within {budget}", 10, partial(trials, networks), report)


def _next(runs: Collection[Sequence[Finished]]) -> str:
    """What to do with the best run of the network that is best on average over the seeds."""
    network: Sequence[Finished] = max(runs, key=accuracy)
    best = max(network, key=lambda each: float(each.row["accuracy"]))
    again = f"The best is {best.trial.name}. To train it for longer: `{best.row['command']}` with more epochs."
    if best.path is None:
        return again
    return f"{again} For the device, as it is: `{shlex.join(['simroot', 'export', str(best.path)])}`."
