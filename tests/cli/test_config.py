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
        ("- 1", "expected names and values"),
        ("a: [", "is no YAML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(write(tmp_path, text))
