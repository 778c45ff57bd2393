"""Files with settings of a training."""

from pathlib import Path

import pytest

from simroot.cli.config import Settings, read_settings
from simroot.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_all_sections(tmp_path: Path) -> None:
    text = """
    model: {name: nin, overrides: {channels: 8}}
    data: {name: digits, source: {name_or_path: digits, limit: 100}, classes: [a, b]}
    recipe: {epochs: 3}
    versions: {python: "3"}
    """
    assert read_settings(write(tmp_path, text)) == Settings(
        "nin", {"channels": 8}, {"name_or_path": "digits", "limit": 100}, {"epochs": 3}
    )


def test_a_path_is_one_from_anywhere(tmp_path: Path) -> None:
    found = read_settings(write(tmp_path, "data: {source: {name_or_path: ~/photos}}")).source
    assert found == {"name_or_path": Path.home() / "photos"}


@pytest.mark.parametrize("text", ["", "recipe:", "data: {source: }"])
def test_what_is_left_out_is_empty(tmp_path: Path, text: str) -> None:
    assert read_settings(write(tmp_path, text)) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recpie: {}", "has no recpie; known are model, data, recipe"),
        ("model: nin", "model is 'nin'; expected names and values"),
        ("model: {nam: nin}", "model has no nam; known are name, overrides"),
        ("data: {source: {path: x}}", "data.source has no path; known are name_or_path"),
        ("recipe: 3", "recipe is 3; expected names and values"),
        ("model: {name: 5}", "model.name is 5; expected str or null"),
        ("model: {overrides: {1: 2}}", "model.overrides has the name 1; expected words"),
        ("model: {overrides: {num_classes: 5}}", "has num_classes, which comes from the images"),
        ("data: {source: {image_size: big}}", "data.source.image_size is 'big'; expected int or null"),
        ("data: {source: {limit: 20.5}}", "data.source.limit is 20.5; expected int or null"),
        ("data: {source: {check: 'no'}}", "data.source.check is 'no'; expected bool"),
        ("data: {source: {seed: true}}", "data.source.seed is True; expected int"),
        ("data: {source: {name_or_path: ''}}", "--data is empty"),
        ("- 1", "expected names and values"),
        ("a: [", "is no YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(write(tmp_path, text))
