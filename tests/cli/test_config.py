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
        ("recpie: {}", "has no 'recpie'; known are model, data, recipe"),
        ("model: nin", "model is 'nin'; expected names and values"),
        ("model: {nam: nin}", "model has no 'nam'; known are name, overrides"),
        ("data: {source: {path: x}}", "data.source has no 'path'; known are name_or_path"),
        ("recipe: 3", "recipe is 3; expected names and values"),
        ("model: {name: 5}", "model.name is 5; expected text or null"),
        ("model: {overrides: {1: 2}}", "model.overrides has the name 1; expected words"),
        ("model: {overrides: {num_classes: 5}}", "has num_classes, which comes from the images"),
        (
            "data: {source: {image_size: big}}",
            "image_size is 'big'; expected a whole number or a list or null",
        ),
        ("data: {source: {limit: 20.5}}", "data.source.limit is 20.5; expected a whole number or null"),
        ("data: {source: {check: 'no'}}", "data.source.check is 'no'; expected true or false"),
        ("data: {source: {seed: true}}", "data.source.seed is True; expected a whole number"),
        ("data: {source: {name_or_path: ''}}", "--data is empty"),
        ("- 1", "expected names and values"),
        ("a: [", "is no YAML"),
        ("data: {source: {1: x}}", "data.source has the name 1; expected words"),
        ("model: {overrides: [x]}", r"model.overrides is \['x'\]; expected names and values"),
        ("data: {source: {name_or_path: [a]}}", r"name_or_path is \['a'\]; expected text or a path"),
        ("recipe: {epoch: 1}", "a recipe has no field 'epoch'; did you mean epochs"),
        ("recipe: {new: 1}\nversions: {simroot: 99.0.1}", "was written by a newer version of simroot, '99.0.1'"),
        ("a: 1\nversions: {simroot: 99.0.1}", "was written by a newer version of simroot, '99.0.1'"),
        (f"model: {{name: {'x' * 9999}, overrides: 3}}", "model.overrides is 3"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_settings(write(tmp_path, text))


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", "1.0e-3", "'1e-3'"])
def test_a_rate_as_people_write_it(tmp_path: Path, text: str) -> None:
    found = read_settings(write(tmp_path, f"recipe: {{learning_rate: {text}}}\nmodel: {{overrides: {{order: 5e-1}}}}"))
    assert found.recipe == {"learning_rate": 1e-3}
    assert found.overrides == {"order": 0.5}
