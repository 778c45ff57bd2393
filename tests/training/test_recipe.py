import dataclasses
from typing import Any

import pytest
import yaml

from simroot.errors import ConfigError
from simroot.training import RECIPES, Recipe, recipe


def test_paper_is_section_6_1() -> None:
    paper = RECIPES["paper"]
    assert (paper.optimizer, paper.nesterov, paper.momentum) == ("sgd", True, 0.9)
    assert (paper.batch_size, paper.weight_decay, paper.learning_rate) == (128, 1e-4, 0.01)
    assert (paper.epochs, paper.schedule, paper.gamma, paper.warmup) == (300, "step", 0.1, 0.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("batch_size", "128"),
        ("optimizer", "adam"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("nesterov", 1),
        ("weight_decay", -1e-4),
        ("schedule", "linear"),
        ("milestones", (0.5, 0.25)),
        ("milestones", (0,)),
        ("gamma", 0),
        ("warmup", 1.0),
        ("clip_norm", 0.0),
        ("label_smoothing", 1),
        ("shift", -1),
        ("shift", 1.0),
        ("mirror", "yes"),
        ("crop", "random"),
        ("precision", "16"),
        ("precision", 16),
        ("channels_last", None),
        ("compile", "no"),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_wrong_value_names_the_field_and_what_is_expected(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"recipe field {field} is .*; expected \S+"):
        recipe(**{field: value})


def test_a_bound_is_told() -> None:
    with pytest.raises(ConfigError, match=r"learning_rate is 1e\+39; expected a number above 0 and below 3e\+38"):
        Recipe(learning_rate=1e39)


def test_every_field_has_a_rule() -> None:
    from simroot.training.recipes import _KINDS, _RULES

    assert {*_RULES, *_KINDS} == {field.name for field in dataclasses.fields(Recipe)}


def test_fields_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="nesterov"):
        recipe(momentum=0.0)
    assert recipe(momentum=0.0, optimizer="adamw").momentum == 0
    with pytest.raises(ConfigError, match="milestones"):
        recipe(schedule="step")


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="unknown recipe 'papre'; known are default, imagenet, long, paper"):
        recipe("papre")
    with pytest.raises(ConfigError, match="'learning_rates'; did you mean learning_rate"):
        recipe(learning_rates=0.1)


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["paper"].epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_survives_yaml(name: str) -> None:
    changed = recipe(name, clip_norm=1, shift=0, mirror=True)
    assert Recipe.from_dict(yaml.safe_load(yaml.safe_dump(changed.to_dict()))) == changed
