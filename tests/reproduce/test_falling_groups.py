"""Networks whose filter groups fall with depth: as many parameters, and the groups that their names say."""

from __future__ import annotations

import pytest
from torch import nn

from simroot.measure import count
from simroot.models import create_model, deploy
from simroot.reproduce.falling_groups import EXPERIMENT, WIDTHS


@pytest.mark.slow
def test_each_has_its_groups_and_nearly_all_of_the_budget() -> None:
    for widths, trial in zip(WIDTHS, EXPERIMENT.trials(1, 0), strict=True):
        model = deploy(create_model(trial.model, 10, 3, **trial.overrides))
        assert 19_000 < count(model, (3, 32, 32)).parameters <= 20_000
        for stage, width in enumerate(widths, start=1):
            filters = [part for name, part in model.named_modules() if name.startswith(f"block{stage}")]
            spatial = [part for part in filters if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3)]
            assert spatial
            assert {part.in_channels // part.groups for part in spatial} == {width}
