"""Every test of this folder runs once with each kind of kernels."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from simroot.ops import available_kernels, use_kernels

HERE = Path(__file__).parent
NAMES = available_kernels()
# The best and none are what people have; the others run in the long suite.
KERNELS = [name if name in (NAMES[0], NAMES[-1]) else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What meets no kernels runs once: they compute in float32, and not in graphs that are recorded."""
    again = {id(item) for item in items if _meets_no_kernels(item) and _parameters(item).get("kernels") != NAMES[0]}
    config.hook.pytest_deselected(items=[item for item in items if id(item) in again])
    items[:] = [item for item in items if id(item) not in again]


def _parameters(item: pytest.Item) -> dict[str, Any]:
    return item.callspec.params if hasattr(item, "callspec") else {}


def _meets_no_kernels(item: pytest.Item) -> bool:
    marked = item.get_closest_marker("without_kernels") is not None
    return marked or (item.path.parent == HERE and _parameters(item).get("dtype") == torch.float64)


@pytest.fixture(autouse=True, params=KERNELS)
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    with use_kernels(request.param):
        yield request.param


@pytest.fixture
def assert_same_bits() -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Asserts that a call gives the same tensors, bit for bit, at any number of threads."""
    before = torch.get_num_threads()

    def check(call: Callable[[], Any]) -> None:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            out = call()
            found.append((out,) if isinstance(out, Tensor) else out)
        for other in found[1:]:
            assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))

    yield check
    torch.set_num_threads(before)
