"""Every test of this folder runs once with each kind of kernels."""

from collections.abc import Iterator

import pytest

from simroot.ops import available_kernels, use_kernels

NAMES = available_kernels()
# The best and none are what people have; the others run in the long suite.
KERNELS = [name if name in (NAMES[0], NAMES[-1]) else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


@pytest.fixture(autouse=True, params=KERNELS)
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    with use_kernels(request.param):
        yield request.param
