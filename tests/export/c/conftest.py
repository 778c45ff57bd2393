from collections.abc import Iterator

import pytest

from export.c.networks import NETWORKS, compiled
from simroot.engines.host import WARNINGS, HostProgram


@pytest.fixture(autouse=True, scope="session")
def warnings_are_errors() -> Iterator[None]:
    """Of the compilers, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CFLAGS", " ".join(WARNINGS))
        yield


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory, warnings_are_errors: None) -> dict[str, HostProgram]:
    """Every small network, compiled once."""
    return {case: compiled(case, tmp_path_factory.mktemp(case)) for case in NETWORKS}
