"""The table of engines: what is added there is known everywhere."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from cli.result import Simroot
from export.c.networks import need_compiler
from simroot.engines import ENGINES, Engine, Loaded, is_network_file, load_file, open_file, readers
from simroot.errors import ConfigError, DataError, ExportError
from simroot.export import Description, Predictor, to_c
from simroot.measure import Candidate, compare, file_input_size

CLASSES = ("dark", "light")
SIZE = (1, 2, 2)


class Toy(Engine):
    """Files that hold a matrix in text, for float32 or pixels."""

    name = "toy"
    suffixes = (".toy",)
    package = "numpy"
    extra = "runtime"

    def load(self, source: Path, threads: int | None = None, shape: tuple[int, ...] | None = None) -> Loaded:
        content = json.loads(source.read_text())
        matrix = np.array(content.pop("matrix"), np.float32)

        def bind(batch: NDArray[Any]) -> Callable[[], Any]:
            return lambda: [batch.reshape(len(batch), -1).astype(np.float32) @ matrix]

        kind = "uint8" if "uint8" in content["simroot.input"] else "float32"
        shapes = {"inputs": ((None, *SIZE),), "outputs": ((None, matrix.shape[1]),)}
        return Loaded(bind, lambda found: found[0], kind=kind, threads=threads, properties=content, **shapes)  # type: ignore[arg-type]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of an engine that is in the table."""
    monkeypatch.setitem(ENGINES, "toy", Toy())
    known = {"parameters": 8, "macs": 8, "flops": 16, "layers": []}
    description = Description(SIZE, CLASSES, mean=(0.0,), std=(1.0,), model="toy", cost=known)
    path = tmp_path / "a.toy"
    path.write_text(json.dumps({"matrix": [[-1, 1]] * 4, **description.properties()}))
    return path


@pytest.mark.slow
def test_every_command_knows_a_new_engine(toy: Path, simroot: Simroot, tmp_path: Path) -> None:
    for name, grey in (("dark", 1), ("light", 255)):
        (tmp_path / "data" / "val" / name).mkdir(parents=True)
        Image.new("L", (2, 2), grey).save(tmp_path / "data" / "val" / name / "a.png")
    assert Predictor(toy).classify(tmp_path / "data" / "val" / "light" / "a.png")[0][0][0] == "light"
    (found,) = simroot("predict", toy, tmp_path / "data" / "val" / "light" / "a.png", "--json").json
    assert found["classes"][0]["class"] == "light"
    assert simroot("evaluate", toy, "--data", tmp_path / "data", "--json").json["accuracy"] == 0.5
    assert simroot("cost", toy, "--json").json["macs"] == 8
    (row,) = simroot("bench", toy, "--seconds", "0.001", "--json").json["results"]
    assert (row["engine"], row["threads"], row["macs"]) == ("toy", 1, 8)
    assert ".toy files run in toy" in simroot("bench", "a.other").err


def test_files_and_engines_that_do_not_fit(toy: Path) -> None:
    assert file_input_size(toy) == SIZE
    assert readers(toy) == [ENGINES["toy"]]
    assert is_network_file(Path("nothing.toy"))
    assert not is_network_file(toy.parent)
    with pytest.raises(DataError, match=r"takes inputs of shape \[None, 1, 2, 2\], received \[1, 3, 2, 2\]"):
        load_file(toy, shape=(1, 3, 2, 2))
    with pytest.raises(ConfigError, match=r"openvino does not run a\.toy; .*\.toy files run in toy"):
        load_file(toy, ENGINES["openvino"])
    toy.write_text("{")
    with pytest.raises(ExportError, match=r"a\.toy cannot be loaded: .*; export it again"):
        open_file(toy)


def test_what_breaks_while_it_runs_is_told(toy: Path) -> None:
    with pytest.raises(ExportError, match=r"a\.toy cannot be run: .*; export it again"):
        open_file(toy).run(np.zeros((2, 3), np.uint8))


def test_a_wrong_number_of_threads_is_not_timed(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Toy.load
    monkeypatch.setattr(Toy, "load", lambda self, source, threads, shape: load(self, source, 3, shape))
    with pytest.raises(ConfigError, match=r"toy runs a\.toy with 3 threads; expected 2"):
        compare([Candidate("a", SIZE, file=toy)], ["toy"], threads=[2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_compiler()
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("c") / "device"
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2))
    to_c(model, path, (3, 5, 5), classes=CLASSES, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.4], name="small")
    torch.save(model.state_dict(), path.parent / "weights.pt")
    return path


def test_c_is_an_engine(folder: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 9, 2))
    model.load_state_dict(torch.load(folder.parent / "weights.pt", weights_only=True))
    pixels = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 5), dtype=np.uint8)
    predictor = Predictor(folder / "small.c")
    assert predictor.classes == CLASSES
    mean, std = (torch.tensor(values)[:, None, None] for values in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    with torch.no_grad():
        expected = model((torch.from_numpy(pixels) / 255 - mean) / std).numpy()
    np.testing.assert_allclose(predictor.scores(pixels), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow  # compiles five times
def test_c_is_timed(folder: Path, simroot: Simroot) -> None:
    (row,) = simroot("bench", folder / "small.c", "--seconds", "0.001", "--json").json["results"]
    assert (row["engine"], row["precision"]) == ("c", "f32")
    result = simroot("bench", folder / "small.c", "--threads", "2")
    assert (result.code, "c runs small.c with 1 thread; expected 2" in result.err) == (2, True)
    (found,) = compare([Candidate("a", (4,), nn.Linear(4, 2))], ["c"], seconds=1e-3)
    assert found.error is not None
    assert found.error < 1e-5


def test_c_without_what_it_needs(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small.c").write_text("")
    with pytest.raises(ExportError, match=r"small\.c cannot be loaded: .*small\.c\.json"):
        open_file(tmp_path / "small.c")
    (tmp_path / "small.c.json").write_bytes((folder / "small.c.json").read_bytes())
    (tmp_path / "small.h").write_text("")
    with pytest.raises(ExportError, match=r"small\.h does not say the network's sizes"):
        open_file(tmp_path / "small.c")
    monkeypatch.setattr(importlib.import_module("simroot.engines.host"), "compiler", lambda: None)
    with pytest.raises(ConfigError, match="engine c needs a C compiler; install gcc or clang"):
        open_file(folder / "small.c")
