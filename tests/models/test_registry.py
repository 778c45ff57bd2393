"""The registry: names, suggestions, overrides and what it demands of a builder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from simroot.errors import ConfigError
from simroot.models import create_model, list_models, model_entry, register, registry


@pytest.fixture
def scratch_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test register networks that are gone afterwards."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))


def tiny(num_classes: int = 7, in_channels: int = 2, *, image_size: int = 4, width: int = 3) -> nn.Module:
    """One line that says what it is.

    More lines.
    """
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, width), nn.Linear(width, num_classes))


def test_list_models_is_sorted_and_matches_shell_patterns() -> None:
    assert list_models() == sorted(list_models())
    assert list_models("convnet_*") == ["convnet_caffe", "convnet_caffe_bn", "convnet_coates", "convnet_plain"]
    assert list_models("no such*") == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("convnet_cafe", "did you mean convnet_caffe"), ("nin-compact", "did you mean nin_compact"), ("%%%", "known are")],
)
def test_unknown_name_is_answered_with_the_nearest(name: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected) as error:
        create_model(name)
    assert repr(name) in str(error.value)
    with pytest.raises(ConfigError, match=expected):
        model_entry(name)


def test_unknown_override_is_answered_with_the_models_own() -> None:
    with pytest.raises(ConfigError, match=r"nin_compact has no override 'imagesize'; did you mean image_size\?"):
        create_model("nin_compact", imagesize=16)
    with pytest.raises(ConfigError, match="known are batch_norm, channels, image_size"):
        create_model("nin_compact", zzz=1)


@pytest.mark.parametrize("argument", ["num_classes", "in_channels"])
@pytest.mark.parametrize("value", [-1, 2.5, "10", True])
def test_channels_and_classes_are_positive_integers(argument: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{argument} of nin_compact is {value!r}"):
        create_model("nin_compact", **{argument: value})


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("nin", {"batch_norm": "False"}, "batch_norm of nin is 'False'; expected True or False"),
        ("nin", {"batch_norm": 0}, "batch_norm of nin is 0; expected True or False"),
        ("nin", {"dropout": True}, "dropout of nin is True; expected a number"),
        ("nin", {"image_size": True}, "image_size of nin is True; expected a number"),
        ("nin", {"dropout": "x"}, "nin cannot be built with dropout='x': '<=' not supported"),
        ("simnet2", {"learn": 3}, "simnet2 cannot be built with learn=3: "),
        ("nin", {"groups": 4}, "groups of nin is 4; expected 2 numbers, for conv2a and conv3a"),
        ("alexnet", {"groups": "1111"}, "groups of alexnet is '1111'; expected 4 numbers, for conv2 to conv5"),
        ("googlenet", {"groups": None}, "groups of googlenet is None; expected 4 numbers, for conv3 and inception 3"),
        ("resnet50", {"groups": [1, 1]}, r"groups of resnet50 is \[1, 1\]; expected 4 numbers, for the stages"),
    ],
)
def test_values_that_a_network_cannot_be_built_with(name: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create_model(name, **overrides)


@pytest.mark.usefixtures("scratch_registry")
def test_an_entry_is_read_from_its_builder() -> None:
    assert register("tiny_net", parameters=129, macs=117, recipe={"epochs": 3})(tiny) is tiny
    entry = model_entry("tiny_net")
    assert (entry.name, entry.build, entry.summary) == ("tiny_net", tiny, "One line that says what it is.")
    assert (entry.num_classes, entry.input_size) == (7, (2, 4, 4))
    assert (entry.parameters, entry.macs, dict(entry.recipe)) == (129, 117, {"epochs": 3})
    assert entry.overrides == {"image_size": 4, "width": 3}
    assert create_model("tiny_net", 5, 1, width=2)(torch.zeros(3, 1, 4, 4)).shape == (3, 5)


@pytest.mark.usefixtures("scratch_registry")
def test_a_name_is_taken_once() -> None:
    register("nin_tiny")(tiny)

    def another(num_classes: int = 1, in_channels: int = 1, *, image_size: int = 1) -> nn.Module:
        """Another network."""
        return nn.Identity()

    with pytest.raises(ValueError, match=r"'nin_tiny' is registered already, by .*test_registry; choose another name"):
        register("nin_tiny")(another)
    with pytest.raises(ValueError, match=r"'nin' is registered already, by simroot\.models\.baselines\.nin"):
        register("nin")(another)


@pytest.mark.usefixtures("scratch_registry")
def test_a_notebook_s_cell_may_run_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    register()(tiny)
    assert not caplog.records
    register(macs=3)(tiny)
    assert model_entry("tiny").macs == 3
    assert "the model tiny is registered again" in caplog.text

    def written_anew(num_classes: int = 1, in_channels: int = 1, *, image_size: int = 1) -> nn.Module:
        """By hand, with another name."""
        return nn.Identity()

    for build in (tiny, written_anew):
        monkeypatch.setattr(build, "__module__", "__main__")
    register("tiny")(written_anew)
    assert model_entry("tiny").build is written_anew


@pytest.mark.usefixtures("scratch_registry")
def test_a_builder_needs_a_docstring_and_named_defaults() -> None:
    def no_docstring(num_classes: int = 10, in_channels: int = 3, *, image_size: int = 32) -> nn.Module:
        return nn.Identity()

    def no_defaults(num_classes: int, in_channels: int = 3) -> nn.Module:
        """It has a summary."""
        return nn.Identity()

    with pytest.raises(ValueError, match="missing: the docstring"):
        register()(no_docstring)
    with pytest.raises(ValueError, match="missing: num_classes, image_size"):
        register()(no_defaults)
