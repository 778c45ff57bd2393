"""Stand-ins in the place of training."""

import pytest

from simroot import training as module
from trials.standins import Trainings, images


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    found = Trainings(images())
    monkeypatch.setattr(module, "train", found.train)
    monkeypatch.setattr(module, "resume", found.resume)
    return found
