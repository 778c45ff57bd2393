"""Tests run side by side, a process for each core: each, and each process that it starts, has one thread."""

import gc
import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Modules and collected tests, which are millions of objects, stay until the end: no search for garbage looks at them.
gc.disable()


def pytest_runtestloop() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of a training are composed but not rendered: that takes longer than small trainings."""
    monkeypatch.setattr("simroot.training.plots._save", lambda figure, path: path.touch())
