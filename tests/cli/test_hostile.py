"""Names and words that nobody expects: kept exactly, shown harmlessly, refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cli.result import Simroot

NAMES = ("yes", "null", "1e3", "[red]", "[", "a\x85b", "a\nb", "\x1b[31mred", "日本", "- x: y")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photos"
    for value, name in enumerate(NAMES):
        for part, count in (("train", 3), ("val", 1)):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.full((8, 8), 20 * value + number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Glyph")  # the picture's font does not have all of them
def test_names_of_classes_come_back_as_they_are(simroot: Simroot, photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("--model", "simnet_mlp", "--recipe.epochs", 1, "--recipe.batch_size", 8, "--quiet", "--out", run)
    assert simroot("train", "--data", photos, *words).code == 0
    image = photos / "val" / "yes" / "0.png"
    (found,) = simroot("predict", run, image, "--json", "--top", len(NAMES)).json
    assert {each["class"] for each in found["classes"]} == set(NAMES)
    result = simroot("evaluate", run, "--json")
    assert set(result.json["per_class"]) == set(NAMES)
    table = simroot("evaluate", run).out
    assert "\x1b" not in table
    for shown in ("yes", "null", "1e3", "[red]", "a\\x85b", "a\\nb", "\\x1b[31mred", "日本", "- x: y"):
        assert shown in table
    assert simroot("train", "--resume", run, "--quiet").code == 0  # "the data has changed" would be 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--devices", "9" * 5000], "are more devices than there are"),
        (["train", "--set", f"order={'[' * 3000}"], "is nested too deeply"),
        (["train", "--recipe.seed", "9" * 5000], "is not a whole number"),
        (["design", "--parameters", "1" * 30], "is no whole number of at least 1"),
        (["design", "--parameters", f"1.{'1' * 30}M"], "is no whole number of at least 1"),
        (["cost", "simnet2", "--num-classes", "9" * 5000], "is no whole number of at least 1"),
        (["cost", "simnet2", "--set", "channels=1000000"], "GB of memory to train"),
        (["cost", "simnet2", "--set", f"channels={'9' * 400}"], "channels=<int of 1329 bits>"),
        (["cost", "x" * 5000], "xxx"),
        (["train", "--model", "\x1b[31m" * 1000], "unknown model '\\x1b[31m"),
        (["train", f"--{'x' * 5000}"], "unknown option"),
        (["predict", "nowhere", "x" * 5000], "nowhere"),
        (["x" * 5000], "unknown command"),
    ],
)
def test_words_are_cut(simroot: Simroot, words: list[str], message: str) -> None:
    result = simroot(*words)
    assert result.code == 2
    assert message in result.err
    assert len(result.err) < 1200
    assert result.err.rstrip("\n").isprintable()
