"""Networks turned into root networks on the command line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cli.result import Simroot
from simroot.errors import CheckpointError
from simroot.models import create_model, deploy, load_rootified, model_entry, rootify
from simroot.training import load_run


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command saves where it runs."""
    monkeypatch.chdir(tmp_path)


def test_report_and_files_to_build_it_again(simroot: Simroot, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("nin", 5, image_size=8)
    save_file(model.state_dict(), tmp_path / "nin.safetensors")
    words = ["nin", "--degree", 8, "--input-size", "3,8,8", "--num-classes", 5, "--weights", "slice"]
    out = tmp_path / "root.safetensors"
    found = simroot("rootify", *words, "--load", tmp_path / "nin.safetensors", "--out", out, "--json").json
    assert found["groups"] == {"conv2a": 8, "conv3a": 4}
    assert found["parameters"] < found["parameters_before"]
    config = json.loads((tmp_path / "root.json").read_text())
    assert config.items() <= found.items()
    again = create_model(config["model"], **config["arguments"])
    again = rootify(again, config["groups"], example_input=torch.zeros(1, *config["input_size"]))
    again.load_state_dict(load_file(out))
    loaded = load_rootified(out)
    assert not loaded.training
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(x), again.eval()(x))
    # What slicing leaves untouched is the given network's.
    assert torch.equal(again.get_parameter("conv1a.weight"), model.get_parameter("conv1a.weight"))


def test_table(simroot: Simroot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    out = simroot("rootify", "nin", "--degree", 4, "--topology", "tree", "--input-size", "3,8,8").out
    assert "the first convolution is never grouped" in out
    assert "2 of 3 spatial convolutions grouped" in out
    assert "Saved as nin_tree4.safetensors" in out
    assert load_rootified("nin_tree4.safetensors").get_submodule("conv3a").groups == 8
    assert max(map(len, out.splitlines())) <= 120


def test_torchvision(simroot: Simroot) -> None:
    pytest.importorskip("torchvision")
    found = simroot("rootify", "torchvision:resnet18", "--degree", 2, "--input-size", "3,32,32", "--json").json
    assert len(found["groups"]) == 4
    assert found["layers"][0]["note"] == "the first convolution is never grouped"
    loaded = load_rootified("torchvision_resnet18_root2.safetensors")
    assert sum(p.numel() for p in loaded.parameters()) == found["parameters"]


def test_image_size_as_an_override(simroot: Simroot) -> None:
    small, same = (
        simroot("rootify", "nin_compact", "--degree", 2, *words, "--json").json
        for words in (["--set", "image_size=8"], ["--input-size", "3,8,8"])
    )
    assert small == same
    assert small["input_size"] == [3, 8, 8]


def test_a_network_without_convolutions(simroot: Simroot) -> None:
    result = simroot("rootify", "simnet_mlp", "--degree", 2)
    assert result.code == 0
    assert "0 of 0 spatial convolutions grouped: 100.00 % of the parameters, 100.00 % of the MACs" in " ".join(
        result.out.split()
    )
    assert simroot("rootify", "simnet_mlp", "--degree", 2, "--json").json["macs"] == model_entry("simnet_mlp").macs


def test_files_that_do_not_belong_together(simroot: Simroot, tmp_path: Path) -> None:
    simroot("rootify", "nin", "--degree", 4, "--input-size", "3,8,8", "--num-classes", 3, "--out", "a.safetensors")
    simroot("rootify", "nin", "--degree", 2, "--input-size", "3,8,8", "--num-classes", 5, "--out", "b.safetensors")
    with pytest.raises(CheckpointError, match=r"c\.json does not exist; simroot rootify writes it beside c"):
        load_rootified("c.safetensors")
    Path("b.safetensors").rename("a.safetensors")
    with pytest.raises(CheckpointError, match=r"a\.safetensors is damaged or does not fit the network of a\.json: "):
        load_rootified("a.safetensors")
    Path("a.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"a\.safetensors is damaged"):
        load_rootified("a.safetensors")
    Path("a.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"a\.safetensors does not exist"):
        load_rootified("a.safetensors")
    Path("a.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"a\.json is damaged, or not written by simroot rootify"):
        load_rootified("a.safetensors")


@pytest.mark.parametrize(
    "damage",
    [
        {"model": 5},
        {"arguments": [1]},
        {"groups": 3},
        {"input_size": ["a"]},
        {"input_size": [-1, 2, 2]},
        {"input_size": [3, 8]},
    ],
)
def test_a_damaged_description(damage: dict[str, object]) -> None:
    whole = {"model": "nin_compact", "arguments": {"image_size": 8}, "groups": {"conv2a": 2}, "input_size": [3, 8, 8]}
    Path("a.json").write_text(json.dumps(whole | damage))
    with pytest.raises(CheckpointError, match=r"a\.json is damaged"):
        load_rootified("a.safetensors")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nim", "--degree", "2"], "did you mean nin"),
        (["nin", "--degree", "5"], "5 groups for conv2a of Sequential"),
        (["torchvision:nothing", "--degree", "2"], "torchvision cannot build 'nothing'"),
        (["keras:vgg", "--degree", "2"], "'keras' is no source of networks"),
        (["nin"], "required: --degree"),
        (["nin", "--degree", "0"], "no whole number of at least 1"),
        (["nin", "--degree", "2", "--out", "foo.json"], "--out is foo.json; expected a name that ends in .safetensors"),
        (["nin", "--degree", "2", "--out", "no/x.safetensors"], "no, the folder of --out, does not exist"),
    ],
)
def test_mistakes_are_one_line(simroot: Simroot, words: list[str], message: str) -> None:
    result = simroot("rootify", *words)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert not list(Path().iterdir())


def test_weights_that_do_not_fit(simroot: Simroot, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, path)
    result = simroot("rootify", "nin", "--degree", "2", "--input-size", "3,8,8", "--load", path)
    assert (result.code, "does not fit the network" in result.err) == (2, True)
    path.write_bytes(b"no weights")
    result = simroot("rootify", "nin", "--degree", "2", "--input-size", "3,8,8", "--load", path)
    assert (result.code, "is no safetensors file" in result.err) == (2, True)


def test_what_groups_nothing_saves_nothing(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = simroot("rootify", "nin", "--degree", "1")
    assert result.code == 0
    assert "No layer was grouped: nothing was saved." in result.out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_what_was_saved_is_the_name_of_a_network(simroot: Simroot, tmp_path: Path) -> None:
    sizes = ("--num-classes", "10", "--input-size", "1,16,16")
    assert simroot("rootify", "nin_compact", "--degree", "2", "--out", "root.safetensors", *sizes).code == 0
    saved = load_rootified("root.safetensors")
    cost = json.loads(simroot("cost", "root.safetensors", "--json").out)
    assert cost["parameters"] == sum(each.numel() for each in deploy(saved).parameters())
    assert simroot("bench", "root.safetensors", "--seconds", "0.01").code == 0
    assert simroot("export", "root.safetensors", "--out", "root.onnx").code == 0
    # Training starts from its weights, and the run is built again without the file.
    words = ("--image-size", "16", "--limit", "50", "--recipe.epochs", "1", "--quiet", "--out", "run")
    assert simroot("train", "--model", "root.safetensors", *words).code == 0
    run = load_run(tmp_path / "run")
    assert run.model.get_submodule("conv2a").groups == saved.get_submodule("conv2a").groups == 2
    start = load_file(tmp_path / "run" / "initial.safetensors")
    assert torch.equal(start["conv2a.weight"], saved.state_dict()["conv2a.weight"])
    Path("root.safetensors").unlink()
    assert simroot("evaluate", "run").code == 0
    # A run is rootified with its weights; groups that it had already stay.
    assert simroot("rootify", "run", "--degree", "2", "--weights", "slice", "--out", "again.safetensors").code == 0
    assert load_rootified("again.safetensors").get_submodule("conv2a").groups == 2
