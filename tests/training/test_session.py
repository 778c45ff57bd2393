"""What a training says of the machine."""

import os

import pytest

from simroot.training.session import crowded


@pytest.mark.parametrize(
    ("threads", "load", "expected"),
    [
        (2, 3.26, "3.3 programs want its 2 cores; 2 threads wait for each other there, and --threads 1 may be faster"),
        (2, 1.9, None),
        (1, 9.0, None),
    ],
)
def test_a_busy_machine_is_told(
    monkeypatch: pytest.MonkeyPatch, threads: int, load: float, expected: str | None
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    said = crowded(threads)
    assert said is None if expected is None else expected in str(said)
