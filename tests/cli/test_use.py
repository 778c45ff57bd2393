"""Train, evaluate and predict, from the command line."""

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from cli.result import Simroot
from simroot.cli import main
from simroot.cli.train import _reserved, choose_recipe, field_meanings
from simroot.data import load
from simroot.errors import ConfigError
from simroot.training import Recipe, choose, evaluate, load_run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five digits as files, one damaged file and one that is no image."""
    folder = tmp_path_factory.mktemp("images")
    digits = load_digits()
    (folder / "more").mkdir()
    for index in range(5):
        name = "more/[red]4.png" if index == 4 else f"{index}.png"
        Image.fromarray((digits.images[index] * (255 / 16)).astype(np.uint8)).save(folder / name)
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_train_leaves_a_run_and_says_where(simroot: Simroot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    words = ("train", "--limit", "200", "--recipe.epochs", "1", "--seed", "3", "--recipe.clip_norm", "none")
    first, second = simroot(*words), simroot(*words)
    assert first.code == second.code == 0
    for result, number in ((first, 1), (second, 2)):
        run = tmp_path / "runs" / f"simnet2_small-digits-{number}"
        summary = json.loads((run / "summary.json").read_text())
        assert f"{summary['accuracy']:.2%}".replace("%", " %") in result.out
        assert f"{summary['parameters']:,}" in result.out
        assert f"simroot evaluate runs/{run.name}\n" in result.out
        assert "epoch 1/1" in result.err
        assert max(map(len, result.out.splitlines())) <= 80
    recorded = yaml.safe_load((tmp_path / "runs/simnet2_small-digits-1/config.yaml").read_text())
    assert recorded["recipe"]["seed"] == 3
    assert recorded["recipe"]["clip_norm"] is None
    assert recorded["data"]["source"] == {"name_or_path": "digits", "limit": 200}


def test_train_quiet_says_nothing_on_standard_error(simroot: Simroot, tmp_path: Path) -> None:
    result = simroot("train", "--limit", "200", "--recipe.epochs", "1", "--quiet", "--out", tmp_path / "run")
    assert (result.code, result.err) == (0, "")


@pytest.mark.slow
def test_train_again_from_a_config(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("--config", trained / "config.yaml", "--recipe.batch_size", "64", "--limit", "250", "--quiet")
    assert simroot("train", *words, "--out", out).code == 0
    before, after = (yaml.safe_load((path / "config.yaml").read_text()) for path in (trained, out))
    assert after["recipe"] == {**before["recipe"], "batch_size": 64}
    assert after["data"]["source"] == {**before["data"]["source"], "limit": 250}


def test_resume_of_a_finished_run_changes_no_weight(simroot: Simroot, trained: Path) -> None:
    before = (trained / "model.safetensors").read_bytes()
    assert simroot("train", "--resume", trained, "--quiet").code == 0
    assert (trained / "model.safetensors").read_bytes() == before


def test_train_does_not_write_over_a_run(simroot: Simroot, trained: Path) -> None:
    result = simroot("train", "--out", trained, "--limit", "200")
    assert result.code == 2
    assert "holds a run already" in result.err


def test_several_processes_need_a_directory(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = simroot("train", "--num-nodes", "2", "--limit", "200")
    assert result.code == 2
    assert "need --out DIR" in result.err


def test_the_recipe_of_a_command_line() -> None:
    entry, file, words = {"epochs": 5, "gamma": 0.3}, {"epochs": 7}, {"recipe.epochs": 9, "model": "nin"}
    assert choose_recipe({}, {}, {}) == Recipe()
    assert choose_recipe({}, {}, entry) == Recipe(epochs=5, gamma=0.3)
    assert choose_recipe({}, file, entry) == Recipe(epochs=7, gamma=0.3)
    assert choose_recipe(words, file, entry) == Recipe(epochs=9, gamma=0.3)
    named = choose_recipe({"recipe": "paper", **words}, file, entry)
    assert (named.epochs, named.learning_rate, named.gamma) == (9, 0.01, 0.1)
    with pytest.raises(ConfigError, match="no field 'epoch'; did you mean epochs"):
        choose_recipe({}, {"epoch": 3}, {})


def test_every_field_of_the_recipe_has_a_meaning() -> None:
    meanings = field_meanings(Recipe)
    assert meanings.keys() == Recipe.__dataclass_fields__.keys()
    assert all(meanings.values())


def test_evaluate(simroot: Simroot, trained: Path) -> None:
    run = load_run(trained)
    expected = evaluate(run, load("digits", limit=300).val)
    found = simroot("evaluate", trained, "--json").json
    assert found["accuracy"] == expected.accuracy
    assert found["images"] == expected.count == 360
    assert found["per_class"] == expected.per_class
    assert found["confusion"] == expected.confusion.tolist()
    text = simroot("evaluate", trained).out
    assert f"{100 * expected.accuracy:.2f} %" in text


def test_evaluate_on_other_images(simroot: Simroot, trained: Path, images: Path, tmp_path: Path) -> None:
    for label in (0, 1):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        (tmp_path / "data" / str(label) / "a.png").write_bytes((images / f"{label}.png").read_bytes())
    found = simroot("evaluate", trained, "--data", tmp_path / "data", "--json").json
    assert found["images"] == 2
    assert found["per_class"]["7"] is None
    (tmp_path / "data" / "cat").mkdir()
    (tmp_path / "data" / "cat" / "a.png").write_bytes((images / "0.png").read_bytes())
    result = simroot("evaluate", trained, "--data", tmp_path / "data")
    assert result.code == 2
    assert "classes that the network does not know: cat" in result.err
    assert len(result.err.splitlines()) == 1  # and nothing of what else was tried


def test_predict_json(simroot: Simroot, trained: Path, images: Path) -> None:
    result = simroot("predict", trained, images, "--json")
    assert result.code == 0
    found = result.json
    assert [Path(entry["image"]).name for entry in found] == ["0.png", "1.png", "2.png", "3.png", "[red]4.png"]
    for entry in found:
        shares = [guess["probability"] for guess in entry["classes"]]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
    assert "damaged.png" in result.err
    assert "notes.txt" not in result.err


def test_predict_says_that_much_is_cut_away(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    for name, width in (("square", 40), ("wide", 100)):
        Image.new("L", (width, 40)).save(tmp_path / f"{name}.png")
    result = simroot("predict", trained, tmp_path)
    assert result.code == 0
    assert f"of 1 of 2 images a quarter or more is cut away, the most 60% of {tmp_path / 'wide.png'}" in result.err
    assert simroot("predict", trained, tmp_path / "square.png").err == ""


def test_predict_shows_all_classes_if_there_are_fewer(simroot: Simroot, trained: Path, images: Path) -> None:
    (entry,) = simroot("predict", trained, images / "0.png", "--top", "99", "--json").json
    assert len(entry["classes"]) == 10
    assert sum(guess["probability"] for guess in entry["classes"]) == pytest.approx(1, abs=1e-5)


def test_predict_table(simroot: Simroot, trained: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(images)
    monkeypatch.setenv("COLUMNS", "80")
    out = simroot("predict", trained, ".", "2.png").out
    assert "[red]4.png" in out
    assert out.count("2.png") == 2


def test_predict_without_a_readable_image(simroot: Simroot, trained: Path, images: Path) -> None:
    result = simroot("predict", trained, images / "damaged.png", images / "missing.png", "--json")
    assert (result.code, result.json) == (1, [])
    assert result.err.count("skipped: ") == 2


def test_predict_in_an_empty_folder(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    result = simroot("predict", trained, tmp_path)
    assert result.code == 2
    assert "holds no images" in result.err


@pytest.mark.slow
def test_train_alone_learns_the_digits(simroot: Simroot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert simroot("train").code == 0
    found = simroot("evaluate", "runs/simnet2_small-digits-1", "--json").json
    assert found["images"] == 360
    assert found["accuracy"] > 0.95


def class_folders(folder: Path, names: str = "abc") -> Path:
    """Ten digits in each of some classes."""
    digits = load_digits()
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index, pixels in enumerate(digits.images[digits.target == number][:10]):
            Image.fromarray((pixels * (255 / 16)).astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


def test_network_and_recipe_follow_the_data(simroot: Simroot, tmp_path: Path) -> None:
    """As in the library; a word of the command line changes one thing and leaves the rest."""
    data, run = class_folders(tmp_path / "data"), tmp_path / "run"
    words = ("--data", data, "--image-size", "16", "--set", "channels=4", "--recipe.epochs", "1", "--quiet")
    assert simroot("train", *words, "--out", run).code == 0
    config, choice = yaml.safe_load((run / "config.yaml").read_text()), choose(load(data, image_size=16))
    assert config["model"] == {"name": choice.model, "overrides": {**choice.overrides, "channels": 4}}
    assert config["recipe"]["batch_size"] == choice.recipe.batch_size == 32
    assert config["recipe"]["patience"] == choice.recipe.patience
    said = (run / "train.log").read_text()
    assert all(reason in said for reason in choice.reasons)
    assert "as told, in place of that: epochs 1, channels 4" in said


def test_evaluate_and_export_refuse_data_that_has_changed(simroot: Simroot, tmp_path: Path) -> None:
    data, run = class_folders(tmp_path / "data"), tmp_path / "run"
    assert simroot("train", "--data", data, "--recipe.epochs", "1", "--quiet", "--out", run).code == 0
    assert simroot("evaluate", run).code == 0
    (data / "a").rename(data / "z")
    for command in ("evaluate", "export"):
        result = simroot(command, run)
        assert result.code == 2
        assert "the data has changed since" in result.err
        assert "classes is ['b', 'c', 'z'], expected ['a', 'b', 'c']" in result.err


def test_trainings_that_start_together_have_directories_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        found = list(pool.map(lambda _: _reserved(tmp_path / "runs", "net-data", stack), range(16)))
    assert sorted(path.name for path in found) == sorted(f"net-data-{number}" for number in range(1, 17))
    assert not list(tmp_path.iterdir())  # they hold nothing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--data", ""), "--data is empty"),
        (("--accelerator", "abacus"), "Lightning cannot train with accelerator abacus"),
        (("--devices", "0"), "Lightning cannot train with"),
        (("--recipe.shift", "500"), "shift is 500; expected less than the image size"),
    ],
)
def test_a_refused_training_leaves_nothing(
    simroot: Simroot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = simroot("train", "--limit", "200", "--quiet", *words)
    assert result.code == 2
    assert message in result.err
    assert not list(tmp_path.iterdir())


def test_a_home_directory_is_recorded_as_a_path(
    simroot: Simroot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    class_folders(tmp_path / "data")
    run = tmp_path / "run"
    assert simroot("train", "--data", "~/data", "--recipe.epochs", "1", "--quiet", "--out", run).code == 0
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["source"]["name_or_path"] == str(tmp_path / "data")
    assert simroot("evaluate", run).code == 0


def test_names_of_any_bytes_and_letters_from_training_to_prediction(
    simroot: Simroot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = tmp_path / os.fsdecode(b"b\xfccher")
    class_folders(data)
    (data / "a").rename(data / os.fsdecode(b"caf\xe9"))
    (data / "b").rename(data / "犬 ")
    run = tmp_path / "run"
    assert simroot("train", "--data", data, "--recipe.epochs", "1", "--quiet", "--out", run).code == 0
    assert (run / "summary.json").is_file()
    assert yaml.safe_load((run / "config.yaml").read_text("utf-8"))["data"]["classes"][1:] == ["caf\\xe9", "犬"]
    for words in (("evaluate", run), ("predict", run, data)):  # as a console of Western letters redirected to a file
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffer := io.BytesIO(), "cp1252", errors="strict"))
        assert main([*map(str, words)]) == 0
        assert rb"\u72ac" in buffer.getvalue()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffer := io.BytesIO(), "cp1252", errors="strict"))
    assert main(["evaluate", str(run), "--json"]) == 0
    assert "犬" in json.loads(buffer.getvalue())["per_class"]


def test_a_named_image_that_cannot_be_read_makes_the_code_1(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "new")
    first = next(folder.glob("*/*.png"))
    (tmp_path / "broken.png").write_bytes(b"broken")
    (folder / "broken.png").write_bytes(b"broken")
    for missing in (tmp_path / "missing.png", tmp_path / "broken.png"):
        result = simroot("predict", trained, first, missing, "--json")
        assert (result.code, len(json.loads(result.out))) == (1, 1)
        assert f"skipped: {missing}" in result.err
    assert simroot("predict", trained, folder).code == 0  # it is named, but was not asked for by name


def test_a_folder_is_read_as_for_a_training(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "pool")
    new = tmp_path / "new"
    (new / "@eaDir").mkdir(parents=True)
    (new / "linked").symlink_to(folder)
    first = next(folder.glob("*/*.png"))
    (new / "@eaDir" / "thumb.png").write_bytes(first.read_bytes())
    (new / "without_suffix").write_bytes(first.read_bytes())
    (new / "phone.heic").write_bytes(b"heic")
    os.mkfifo(new / "pipe.png")
    result = simroot("predict", trained, new, "--json")
    assert result.code == 0
    assert len(json.loads(result.out)) == len([*folder.rglob("*.png")]) + 1
    assert "left out 1 image in a format that is not read" in result.err
    assert "pipe.png cannot be read as an image: not a regular file" in result.err


@pytest.mark.slow
def test_parts_that_are_given_are_found_again(simroot: Simroot, tmp_path: Path) -> None:
    for fold in ("fold1", "fold2"):
        class_folders(tmp_path / "data" / fold)
    run, words = tmp_path / "run", ("--recipe.epochs", "1", "--quiet", "--out")
    refused = simroot("train", "--data", tmp_path / "data", *words, run)
    assert refused.code == 2
    assert "--train fold1 --val fold2" in refused.err
    given = ("--data", tmp_path / "data", "--train", tmp_path / "data" / "fold1", "--val", "fold2")
    assert simroot("train", *given, *words, run).code == 0
    source = yaml.safe_load((run / "config.yaml").read_text())["data"]["source"]
    assert (source["train"], source["val"]) == ("fold1", "fold2")
    assert "from fold1: " in (run / "train.log").read_text()
    assert "training images are mirrored at random" in (run / "train.log").read_text()
    assert simroot("evaluate", run).code == 0
    alone = tmp_path / "alone"
    assert simroot("train", "--train", tmp_path / "data" / "fold1", "--validation", "4", *words, alone).code == 0
    assert yaml.safe_load((alone / "config.yaml").read_text())["data"]["val"] == 4
    assert simroot("train", "--val", tmp_path, *words, tmp_path / "x").code == 2


def test_names_that_a_terminal_cannot_print(
    monkeypatch: pytest.MonkeyPatch, trained: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    image = tmp_path / os.fsdecode(b"caf\xe9.png")
    Image.new("L", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(image)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(buffer := io.BytesIO(), "utf-8", errors="strict"))
    assert main(["predict", str(trained), str(image), "--json"]) == 0
    assert "caf" in json.loads(buffer.getvalue())[0]["image"]
