"""Every test of this folder runs once with each kind of kernels."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from simroot.ops import available_kernels, use_kernels

NAMES = available_kernels()
# The best and none are what people have; the others run in the long suite.
KERNELS = [name if name in (NAMES[0], NAMES[-1]) else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


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
