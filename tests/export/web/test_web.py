"""A folder for a web server: what is in it, and that it computes what the network does."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from export.c.networks import need_compiler as need_c
from export.web.pages import BACKGROUND, CLASSES, MEAN, STD, in_node, need_compiler, network, options, pictures
from simroot.engines import open_file
from simroot.engines.host import HostProgram, channels_last
from simroot.engines.wasm import WasmProgram
from simroot.errors import ConfigError, ExportError
from simroot.export import Predictor, to_c, to_wasm, to_web
from simroot.export.checked import Exported
from simroot.models import create_model

SIZE = (3, 9, 9)
FILES = ["classes.json", "index.html", "model.wasm", "model.wasm.json", "simroot.d.ts", "simroot.js"]
# Of the largest score. Pillow may resize rows before columns, and rounds in between: a pixel is a step of 255 away.
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    need_compiler()
    return to_web(
        network(), tmp_path_factory.mktemp("web") / "page", SIZE, **options(), labels=[0] * 4, images=_images(4)
    )


def _images(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (count, *SIZE), dtype=np.uint8)


def test_what_is_written(exported: Exported) -> None:
    assert sorted(file.name for file in exported.path.iterdir()) == FILES
    assert [file.name for file in exported.path.parent.iterdir()] == ["page"]
    assert exported.size == sum(file.stat().st_size for file in exported.path.iterdir()) < 25_000
    assert exported.difference < 1e-5
    card = json.loads((exported.path / "model.wasm.json").read_text())
    assert (card["data"], card["model"], card["measured"]["images"]) == ("photos", "Tiny!", 4)
    assert card["measured"]["accuracy"] == exported.accuracy


@pytest.mark.slow
def test_a_page_of_20_000_parameters_is_below_100_kilobytes(tmp_path: Path) -> None:
    need_compiler()
    model = create_model("simnet_mixed", 10, channels=25, depth=1, degree=4)
    given = {**options(32, 32), "classes": [f"class {number}" for number in range(10)]}
    exported = to_web(model, tmp_path / "page", (3, 32, 32), **given)
    assert sum(one.numel() for one in model.parameters()) == 19_712
    assert exported.size < 100_000


def test_the_page_loads_nothing_from_elsewhere(exported: Exported) -> None:
    wasmtime = pytest.importorskip("wasmtime")
    module = wasmtime.Module.from_file(wasmtime.Engine(), str(exported.path / "model.wasm"))
    assert not list(module.imports)
    for name in ("index.html", "simroot.js"):
        addresses = re.findall(r"\w+://[\w.:]+", (exported.path / name).read_text())
        assert set(addresses) <= {"http://localhost:8000"}, name


def test_the_page_can_be_used_without_eyes_and_mouse(exported: Exported) -> None:
    page = (exported.path / "index.html").read_text()
    for needed in ('lang="en"', 'role="status"', "<label>", ":focus-visible", "prefers-color-scheme: dark", "<button"):
        assert needed in page
    named = set(re.findall(r'aria-labelledby="(\w+)"', page))
    assert named == set(re.findall(r' id="(\w+)"', page))


@pytest.mark.slow  # compiles three times
@pytest.mark.parametrize("calibration", [None, 32])
def test_the_bits_are_those_of_c(calibration: int | None, tmp_path: Path) -> None:
    need_compiler()
    need_c()
    model = create_model("simnet_mixed", 3, channels=3, depth=1, image_size=16)
    images = np.random.default_rng(2).integers(0, 256, (32, 3, 16, 16), dtype=np.uint8)
    given = {**options(16, 16), "images": images, **({} if calibration is None else {"calibration": images})}
    to_web(model, tmp_path / "web", (3, 16, 16), **given)
    to_c(model, tmp_path / "c", (3, 16, 16), **given)
    program = HostProgram(tmp_path / "c" / "tiny.c", "tiny", (16, 16, 3), 3, np.uint8)
    loaded = open_file(tmp_path / "web")
    assert loaded.precision == ("f32" if calibration is None else "int8")
    np.testing.assert_array_equal(loaded.run(images), program.scores(channels_last(images)))


@pytest.mark.parametrize(
    "kind",
    [{}, {"fit": "pad"}, {"fit": "stretch", "height": 6, "width": 11, "share": 0.8}, {"channels": 1}],
    ids=lambda kind: "-".join(map(str, kind.values())) or "plain",
)
def test_pictures_become_the_pixels_of_the_predictor(kind: dict[str, Any], tmp_path: Path) -> None:
    need_compiler()
    given = options(**kind)
    shape = given["preparation"].shape
    page = to_web(network(shape[0]), tmp_path / "page", shape, **given).path
    program, predictor = WasmProgram(page / "model.wasm", "uint8"), Predictor(page)
    for picture in pictures(30):
        found = program.prepared(picture).reshape(*shape[1:], shape[0]).transpose(2, 0, 1)
        expected = predictor.read(Image.fromarray(picture)).astype(int)
        assert abs(found - expected).max() <= 1
        if picture.shape[:2] == shape[1:]:
            np.testing.assert_array_equal(found, expected)


def test_what_is_transparent_is_laid_over_the_background_to_the_bit(exported: Exported) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 9, 4), dtype=np.uint8)
    picture[0, :3, 3] = (0, 255, 128)
    ground = Image.new("RGBA", (9, 9), (*BACKGROUND, 255))
    expected = np.asarray(Image.alpha_composite(ground, Image.fromarray(picture)))[..., :3]
    found = WasmProgram(exported.path / "model.wasm", "uint8").prepared(picture)
    np.testing.assert_array_equal(found.reshape(9, 9, 3), expected)


def test_node_gives_the_predictors_classes(exported: Exported, tmp_path: Path) -> None:
    images = pictures(200)
    found, said = in_node(exported.path, images, tmp_path)
    predictor = Predictor(exported.path)
    expected = predictor.scores([Image.fromarray(image) for image in images])
    assert abs(found - expected).max() <= TOLERANCE * abs(expected).max()
    sure = np.sort(expected, 1)
    sure = sure[:, -1] - sure[:, -2] > 2 * TOLERANCE * abs(expected).max()
    assert sure.mean() > 0.8
    assert len(set(expected.argmax(1))) == 3
    np.testing.assert_array_equal(found.argmax(1)[sure], expected.argmax(1)[sure])
    ((first, _),) = predictor.classify([Image.fromarray(images[0])], top=2)
    assert said["best"][0]["name"] == first[0]
    assert said["best"][0]["probability"] == pytest.approx(first[1], abs=TOLERANCE)
    assert (len(said["best"]), said["classes"], said["milliseconds"] > 0) == (2, list(CLASSES), True)
    assert said["card"]["bytes"] == (exported.path / "model.wasm").stat().st_size
    assert said["refused"][0] == "expected red, green, blue and alpha of 8 bits for each pixel"
    assert said["refused"][1:] == ["the picture is not loaded, or has no pixels"] * 2


def test_an_earlier_page_is_replaced_and_other_folders_are_not(exported: Exported, tmp_path: Path) -> None:
    page = tmp_path / "page"
    to_web(network(), page, SIZE, **options())
    to_web(network(), page, SIZE, **{**options(), "classes": None})
    assert sorted(file.name for file in page.iterdir()) == FILES[1:]
    (page / "index.html").write_text("mine")
    with pytest.raises(ExportError, match="no folder that simroot wrote"):
        to_web(network(), page, SIZE, **options())
    assert (page / "index.html").read_text() == "mine"
    assert [file.name for file in tmp_path.iterdir()] == ["page"]


class Cosine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cos(x).mean((2, 3))


def test_what_cannot_be_a_page_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_compiler()
    page = tmp_path / "page"
    with pytest.raises(ConfigError, match="cos of layer the network has no C form"):
        to_web(Cosine(), page, SIZE, mean=MEAN, std=STD)
    with pytest.raises(ConfigError, match="a page needs a network of pictures"):
        to_web(network(), page, SIZE)
    with pytest.raises(ConfigError, match="a page needs a network of pictures"):
        to_web(network(2), page, (2, 9, 9), mean=MEAN[:2], std=STD[:2])
    with pytest.raises(ConfigError, match="custom operator is for ONNX"):
        to_web(network(), page, SIZE, **options(), custom_operator=True)
    monkeypatch.setattr(WasmProgram, "scores", lambda self, images: np.ones((len(images), 3), np.float32))
    with pytest.raises(ExportError, match="was not written"):
        to_web(network(), page, SIZE, **options())
    for package in ("wasmtime", "ziglang"):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ConfigError, match=rf"^{package}, .* is not installed; .* pip install 'simroot\[web\]'$"):
            to_web(network(), page, SIZE, **options())
    assert not list(tmp_path.iterdir())


def test_a_module_of_numbers(tmp_path: Path) -> None:
    need_compiler()
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    path = to_wasm(model, tmp_path / "dense.wasm", (4,)).path
    assert sorted(file.name for file in tmp_path.iterdir()) == ["dense.wasm", "dense.wasm.json"]
    inputs = np.random.default_rng(0).standard_normal((5, 4), dtype=np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(open_file(path).run(inputs), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ConfigError, match=r"should end in \.wasm"):
        to_wasm(model, tmp_path / "dense.onnx", (4,))


def test_a_damaged_module_is_told(exported: Exported, tmp_path: Path) -> None:
    module = tmp_path / "model.wasm"
    module.write_bytes((exported.path / "model.wasm").read_bytes())
    with pytest.raises(ExportError, match=r"cannot be loaded: .*model\.wasm\.json"):
        open_file(tmp_path)
    card = (exported.path / "model.wasm.json").read_text()
    (tmp_path / "model.wasm.json").write_text(card.replace('"uint8 ', '"float32 '))
    with pytest.raises(ExportError, match=r"takes 243 bytes, its JSON says float32 \[3, 9, 9\]"):
        open_file(tmp_path)
    (tmp_path / "model.wasm.json").write_text(card)
    module.write_bytes(module.read_bytes()[:500])
    with pytest.raises(ExportError, match=r"model\.wasm cannot be loaded: .*; export it again"):
        open_file(tmp_path)
