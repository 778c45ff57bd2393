"""The page of a run: whole, in one file, and safe whatever names are."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from markupsafe import Markup
from PIL import Image

from simroot.data import from_arrays
from simroot.errors import CheckpointError
from simroot.export import to_onnx
from simroot.report import write_report
from simroot.report.page import _writable
from simroot.report.pictures import thumbnail
from simroot.training import Run, chosen_images, evaluate, load_run, recipe, train

CLASSES = ("<script>alert(1)</script>", "b & b", "c")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (60, 1, 12, 12), generator=generator).byte()
    data = from_arrays(images, torch.arange(60) % 3, CLASSES, name="noise")
    out = tmp_path_factory.mktemp("report") / "run"
    return train("simnet2_small", data, recipe(epochs=1, batch_size=16), out, progress=False)


class Page(HTMLParser):
    """Checks that what is opened is closed, and collects tags, addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_it_is_one_file_with_all_sections(run: Run) -> None:
    path = write_report(run, images=5)
    assert path == run.path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    assert "script" not in page.tags
    found = evaluate(run, chosen_images(run).split)
    assert f"{found.accuracy:.1%}" in page.text
    wrong = min(5, round((1 - found.accuracy) * found.count))
    assert page.tags.count("img") == 3 + wrong + 5
    for name in ("Training", "Classes", "Most wrong", "Least sure", "Calibration", "Cost", "Files"):
        assert name in page.text
    assert CLASSES[0] in page.text
    assert "b & b" in page.text
    assert "Nothing is exported yet" in page.text


@pytest.mark.slow
def test_exported_files_are_timed_or_named(run: Run, tmp_path: Path) -> None:
    broken = run.path / "broken.onnx"
    try:
        to_onnx(run.model, run.path / "model.onnx", run.preparation.shape)
        broken.write_bytes(b"no network")
        page = write_report(run, tmp_path / "page.html", seconds=0.01).read_text(encoding="utf-8")
    finally:
        broken.unlink(missing_ok=True)
        (run.path / "model.onnx").unlink(missing_ok=True)
    rows = re.findall(r'<th scope="row">([\w.]+\.onnx)</th>.*?<td>(\w+)</td><td class="number">(.*?)</td>', page)
    (first, second) = sorted(rows)
    assert first[:2] == ("broken.onnx", "onnxruntime")
    assert "broken.onnx" in first[2]
    assert second[:2] == ("model.onnx", "onnxruntime")
    assert float(second[2]) > 0


def test_a_training_that_is_not_complete(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for path in run.path.iterdir():
        if path.name not in ("summary.json", "report.html"):
            (tmp_path / "run" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match=r"its training is not complete"):
        write_report(load_run(tmp_path / "run"))
    assert not (tmp_path / "run" / "report.html").exists()


def test_bytes_that_are_no_letters_are_question_marks() -> None:
    assert _writable("a\udcff") == "a?"
    assert _writable(Markup("<b>")) == Markup("<b>")
    assert _writable(3) == 3


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 300, 200), (3, 100, 40)])
def test_thumbnails_are_pictures(shape: tuple[int, ...]) -> None:
    address = thumbnail(torch.zeros(shape, dtype=torch.uint8))
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert 56 < max(picture.size) <= 112
    assert picture.mode == ("L" if shape[0] == 1 else "RGB")
