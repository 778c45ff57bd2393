"""The time of networks on this machine: predicted by a cost model that is fitted once, and measured."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import nn

import simroot
from simroot.data.progress import watched
from simroot.design.tasks import CIFAR_10, Task, deployed
from simroot.errors import DataError, SimrootError
from simroot.measure import prediction
from simroot.measure.prediction import CostModel
from simroot.measure.quick import quick_latency
from simroot.models import model_entry
from simroot.training.environment import processor

# How times are measured: exported, one image at a time.
ENGINE, THREADS = "onnxruntime", 1

# How long a network is measured, and one that the cost model is fitted to.
_SECONDS = 0.3
_SECONDS_FITTED = 0.15

# What the cost model is fitted to: each kind of network, narrow and wide, channels in fours and not.
_FITTED: tuple[tuple[str, Mapping[str, Any]], ...] = tuple(
    (model, {"channels": channels, **others})
    for model, sizes, others in (
        ("simnet_mixed", (6.0, 16.0, 33.5), {"depth": 1}),
        ("simnet_mixed", (8.0, 20.0, 34.0), {"depth": 1, "degree": 4}),
        ("convnet_plain", (5.0, 12.0, 20.0), {"depth": 1}),
        ("resnet20", (4.0, 9.0, 14.5), {"depth": 1}),
        ("simnet_mobile", (6.0, 12.0, 16.0), {"depth": 1, "groups": 4}),
        ("simnet_pyramid", (7.0, 16.0), {}),
        ("mobilenet_v3_compact", (5.0, 8.0, 16.5), {"depth": 1}),
        ("mobilenet_v2_compact", (5.0, 8.0, 12.5), {"depth": 1}),
        ("simnet2", ([8, 16], [17, 33]), {}),
        ("bsconv_wrn_s", (5.0, 8.0, 16.0), {"depth": 2}),
        ("bsconv_wrn_u", (5.5, 8.0), {"depth": 2}),
        ("tiniest", (4, 8, 20), {"depth": 1}),
        ("mlperf_resnet8", (5.0, 8.0), {}),
        ("simnet_residual", (8, 16, 32), {"depth": 2}),
    )
    for channels in sizes
)

log = logging.getLogger(__name__)


@dataclass
class Times:
    """The milliseconds of networks for a task: predicted, or measured, each once.

    ``found`` has what was measured by model and overrides.
    """

    task: Task
    found: dict[str, float] = field(default_factory=dict)

    def of(self, model: str, overrides: Mapping[str, Any], limit: float) -> float:
        """Measured for one image; what is over the limit gets another chance: a disturbance must not decide."""
        key = json.dumps([model, {**model_entry(model).overrides, **overrides}])
        if key not in self.found:
            network = deployed(model, overrides, self.task)
            time = milliseconds(network, self.task)
            self.found[key] = time if time <= limit else min(time, milliseconds(network, self.task))
            expected = self.predicted(model, overrides)
            log.info("%s, %s: %.3f ms, %.3f predicted", model, dict(overrides), self.found[key], expected)
        return self.found[key]

    def predicted(self, model: str, overrides: Mapping[str, Any]) -> float:
        """As the cost model has it, within a few hundredths of a second."""
        return self._model.predict(prediction.work(deployed(model, overrides, self.task), self.task.input_size))

    @cached_property
    def _model(self) -> CostModel:
        return cost_model()


def cost_model(folder: Path | None = None) -> CostModel:
    """The cost model of this processor and engine: kept from before, or fitted now and kept.

    Args:
        folder: where it is kept; by default the user's folder for such files.
    """
    place = (folder or _cache()) / f"{_key()}.json"
    try:
        return prediction.read(place)
    except DataError as error:
        log.info("%s", error if place.exists() else f"measuring {len(_FITTED)} networks to predict times, once")
    model = fitted()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        prediction.save(place, model)
    except (OSError, SimrootError) as error:
        log.warning("times of operators are not kept: %s", error)
    return model


def fitted() -> CostModel:
    """A cost model of networks that are measured now."""
    works, times = [], []
    for model, overrides in watched(_FITTED, "measuring networks", total=len(_FITTED), every=3.0):
        network = deployed(model, overrides, CIFAR_10)
        works.append(prediction.work(network, CIFAR_10.input_size))
        times.append(milliseconds(network, CIFAR_10, _SECONDS_FITTED))
    return prediction.fit(works, times)


def milliseconds(network: nn.Module, task: Task, seconds: float = _SECONDS) -> float:
    """For one image; untrained networks take as long as trained ones."""
    with tempfile.TemporaryDirectory() as folder:
        return quick_latency(network, task.input_size, Path(folder), seconds=seconds, threads=THREADS)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "simroot"


def _key() -> str:
    """Another one for another processor, engine, number of threads or version of ours."""
    facts = [processor(), ENGINE, metadata.version(ENGINE), THREADS, simroot.__version__, [list(x) for x in _FITTED]]
    return f"times-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}"
