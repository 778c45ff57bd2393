import pytest

from export.c.networks import NETWORKS, compiled
from simroot.engines.host import HostProgram


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, HostProgram]:
    """Every small network, compiled once."""
    return {case: compiled(case, tmp_path_factory.mktemp(case)) for case in NETWORKS}
