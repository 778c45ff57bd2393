"""How PyTorch's threads wait for each other."""

import os

import pytest

from cli.result import Simroot
from simroot.cli.waiting import wait_asleep

VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)


def test_they_sleep_soon() -> None:
    wait_asleep()
    assert os.environ["GOMP_SPINCOUNT"] == "1000"


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_user_has_chosen_stays(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "5")
    wait_asleep()
    assert {name: os.environ.get(name) for name in VARIABLES} == {**dict.fromkeys(VARIABLES), name: "5"}


@pytest.mark.parametrize(("command", "asleep"), [("train", True), ("reproduce", True), ("models", False)])
def test_commands_that_compute_for_long(simroot: Simroot, command: str, asleep: bool) -> None:
    simroot(command, "--help")
    assert ("GOMP_SPINCOUNT" in os.environ) is asleep
