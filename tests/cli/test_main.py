"""Dispatch, help and errors, common to all commands."""

import inspect
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from cli.result import Simroot
from simroot import __version__
from simroot.cli.doctor import installation
from simroot.cli.main import COMMANDS, sentence
from simroot.errors import TrainingError
from simroot.images.decoding import decode_array
from simroot.images.preparation import Preparation
from simroot.training import RECIPES, Recipe


def test_help_lists_all_commands(simroot: Simroot) -> None:
    result = simroot("--help")
    assert result.code == 0
    assert all(re.search(rf"^    {name}\s", result.out, re.MULTILINE) for name in COMMANDS)


def test_help_does_not_load_pytorch() -> None:
    script = (
        "import sys; from simroot.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(simroot: Simroot, command: str) -> None:
    result = simroot(command, "--help")
    assert result.code == 0
    assert sentence(COMMANDS[command]) in " ".join(result.out.split())


def test_a_summary_as_a_sentence_keeps_its_names() -> None:
    assert sentence(COMMANDS["pretrain"]).startswith("Choose a SimNet's filters")


def test_train_help_shows_the_defaults_of_the_code(simroot: Simroot) -> None:
    from simroot.data import load
    from simroot.training import train

    text = " ".join(simroot("train", "--help").out.split())
    for name in inspect.signature(Recipe).parameters:
        found = re.search(rf"--recipe\.{name} VALUE.*? \(default: ([^)]*)\)", text)
        assert found, name
        value = getattr(RECIPES["default"], name)
        assert found[1] == ("empty" if value == () else str(value).lower())
    assert f"(default: {inspect.signature(load).parameters['name_or_path'].default})" in text
    for name in ("accelerator", "devices", "num_nodes", "strategy"):
        default = inspect.signature(train).parameters[name].default
        assert f"--{name.replace('_', '-')} VALUE of Lightning's Trainer (default: {default})" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "simroot: error: the following arguments are required: COMMAND"),
        (["trian"], "simroot: error: unknown command 'trian'; did you mean train?"),
        (["cost"], "simroot cost: error: the following arguments are required: MODEL|RUN"),
        (["train", "--epochs", "3"], "simroot train: error: unknown option --epochs; did you mean --recipe.epochs?"),
        (["models", "simnet*", "vgg*"], "simroot models: error: unknown arguments: vgg*"),
        (["train", "--recipe.epochs", "many"], "simroot train: error: argument --recipe.epochs: 'many' is not a whole"),
        (["train", "--recipe.epochs", "0"], "simroot train: error: --recipe.epochs is 0; expected"),
        (["train", "--set", "root=3", "--model", "simnet2"], "simroot train: error: simnet2 has no override 'root'"),
        (["train", "--set", "channels=0"], "simroot train: error: --set channels of simnet2_small is 0; expected"),
        (["train", "--recipe", "best"], "simroot train: error: argument --recipe: invalid choice: 'best'"),
        (["train", "--model", "simnet22"], "simroot train: error: unknown model 'simnet22'; did you mean"),
        (["train", "--set", "chanels=3"], "simroot train: error: simnet2_small has no override 'chanels'"),
        (
            ["train", "--data", "digit"],
            "simroot train: error: there is no data set or file digit: did you mean",
        ),
        (["train", "--config", "nowhere.yaml"], "simroot train: error: No such file or directory: nowhere.yaml"),
        (["train", "--resume", "a", "--recipe.epochs", "3"], "simroot train: error: --resume goes on with a run as it"),
        (["models", "zz*"], "simroot models: error: no model matches 'zz*'"),
        (["cost", "simnet2", "--input-size", "3,32"], "simroot cost: error: argument --input-size: '3,32' is no shape"),
        (["evaluate", "nowhere"], "simroot evaluate: error: nowhere holds no run"),
        (["predict", "nowhere", "a.png"], "simroot predict: error: nowhere holds no run"),
    ],
)
def test_a_mistake_gets_one_line_and_code_2(
    simroot: Simroot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = simroot(*words)
    assert result.code == 2
    assert result.out == ""
    *said, last = result.err.splitlines()
    assert last.startswith(message)
    assert all(line.startswith("digits: ") for line in said)  # the images have been read, where the network needs them
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (TrainingError("the loss is nan"), 2, "error: the loss is nan"),
        (PermissionError(13, "Permission denied", "run"), 2, "error: Permission denied: run"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch.nn"),
            2,
            "error: needs torch.nn, which is not installed; pip install 'simroot[train]' brings it",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (KeyboardInterrupt("stopped; to go on: simroot train --resume x"), 130, "stopped; to go on: simroot train"),
    ],
)
def test_what_ends_a_command(
    simroot: Simroot, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("simroot.cli.doctor.installation", fail)
    result = simroot("doctor")
    assert result.code == code
    assert result.err.startswith(f"simroot doctor: {message}")


def test_a_fault_of_our_own_keeps_its_traceback(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simroot.cli.doctor.installation", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        simroot("doctor")


def test_a_module_of_our_own_that_is_missing_keeps_its_traceback(
    simroot: Simroot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ModuleNotFoundError("No module named 'simroot.nothing'", name="simroot.nothing")

    monkeypatch.setattr("simroot.cli.doctor.installation", fail)
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        simroot("doctor")


def test_doctor_needs_no_pytorch(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simroot.cli.doctor.find_spec", lambda name: None)
    facts = simroot("doctor", "--json").json
    assert "kernels" not in facts
    assert facts["processor"]


def test_doctor(simroot: Simroot) -> None:
    facts = simroot("doctor", "--json").json
    assert facts == installation()
    assert facts["simroot"] == __version__
    text = simroot("doctor").out
    assert all(name in text for name in facts)


@pytest.mark.skipif(os.name != "posix", reason="pipes of a POSIX shell")
@pytest.mark.parametrize("words", [["models"], ["models", "--json"]])
def test_a_reader_that_goes_away(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        command = [sys.executable, "-m", "simroot", *words]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ""


def test_damaged_metadata_are_no_warning_of_pillows(simroot: Simroot) -> None:
    """In this suite a warning is an error, as which it would cost the image."""
    assert simroot("--version").code == 0
    damaged = io.BytesIO()
    Image.new("L", (8, 8)).save(damaged, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_array(damaged.getvalue(), Preparation(1, 8)).shape == (1, 8, 8)
