"""Every test of this folder runs once with each kind of kernels."""

from collections.abc import Iterator

import pytest

from simroot.ops import available_kernels, use_kernels


@pytest.fixture(autouse=True, params=available_kernels())
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    with use_kernels(request.param):
        yield request.param
