"""The page in a browser: pictures as files, images, bitmaps and canvases, and a file that is dropped on it."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from export.web.pages import CLASSES, need_compiler, network, options, pictures
from simroot.export import Predictor, to_web

pytestmark = pytest.mark.slow

# Of the largest score: a step of 255 in a pixel, and what a canvas rounds.
TOLERANCE = 0.02
COUNT = 200
_SECONDS = 120
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)

_MODULE = """<!doctype html><script type="module">
import { load } from "./simroot.js";
const network = await load(), scores = [], kinds = [];
for (let index = 0; index < COUNT; ++index) {
  const picture = new Image();
  picture.src = `${index}.png`;
  await picture.decode();
  scores.push([...network.scores(picture)]);
  if (index) continue;
  const canvas = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  for (const kind of [canvas, await createImageBitmap(picture), pixels]) kinds.push([...network.scores(kind)]);
}
await fetch("/said", { method: "POST", body: JSON.stringify({ scores, kinds }) });
</script>
"""
_DROP = """<script type="module">
const until = async (what) => { while (!what()) await new Promise((done) => setTimeout(done, 20)); };
const text = (name) => [...document.querySelectorAll(name)].map((found) => found.textContent);
await until(() => !document.querySelector("input").disabled);
const drop = async (name, type, body) => {
  const data = new DataTransfer(), before = text("[role]")[0];
  data.items.add(new File([body], name, { type }));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, cancelable: true }));
  await until(() => text("[role]")[0] !== before);
  return { status: text("[role]")[0], rows: text("li"), time: text("h2 small")[0] };
};
const good = await drop("0.png", "image/png", await (await fetch("0.png")).blob());
const shown = document.querySelector("img").alt;
const bad = await drop("notes.png", "image/png", "no picture");
await fetch("/said", { method: "POST", body: JSON.stringify({ good, bad, shown, facts: text("dd") }) });
</script>
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and keeps what a page says."""

    def __init__(self, *arguments: Any, heard: list[str], said: threading.Event, **more: Any) -> None:
        self.heard, self.said = heard, said
        super().__init__(*arguments, **more)

    def do_POST(self) -> None:
        self.heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()
        self.said.set()

    def log_message(self, *arguments: Any) -> None:
        pass


def opened(folder: Path, page: str, profile: Path) -> Any:
    """What a page of a folder says when Chromium opens it."""
    chromium = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("chromium is not installed")
    heard: list[str] = []
    said = threading.Event()
    handler = functools.partial(Handler, heard=heard, said=said, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}/{page}"
        words = [chromium, *_FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0", address]
        browser = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert said.wait(_SECONDS), f"{page} says nothing"
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
            thread.join()
    return json.loads(heard[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page beside some pictures, which are opaque: a canvas keeps no exact colours of what is half transparent."""
    need_compiler()
    page = to_web(network(), tmp_path_factory.mktemp("web") / "page", (3, 9, 9), **options()).path
    for index, picture in enumerate(pictures(COUNT)):
        Image.fromarray(picture[..., :3]).save(page / f"{index}.png")
    return page


def test_the_module_gives_the_predictors_classes(folder: Path, tmp_path: Path) -> None:
    (folder / "test.html").write_text(_MODULE.replace("COUNT", str(COUNT)))
    said = opened(folder, "test.html", tmp_path / "profile")
    expected = Predictor(folder / "model.wasm").scores([folder / f"{index}.png" for index in range(COUNT)])
    largest = abs(expected).max()
    assert abs(said["scores"] - expected).max() <= TOLERANCE * largest
    for scores, own in zip(said["scores"], expected, strict=True):
        best = max(range(3), key=scores.__getitem__)
        assert own.max() - own[best] <= 2 * TOLERANCE * largest
    assert len({int(own.argmax()) for own in expected}) == 3
    assert said["kinds"] == [said["scores"][0]] * 3


def test_a_picture_is_dropped_on_the_page(folder: Path, tmp_path: Path) -> None:
    page = (folder / "index.html").read_text()
    (folder / "drop.html").write_text(page.replace("</html>", f"{_DROP}</html>"))
    said = opened(folder, "drop.html", tmp_path / "profile")
    (found,) = Predictor(folder).classify(folder / "0.png", top=3)
    assert said["good"]["status"] == f"0.png: {found[0][0]}"
    assert said["shown"] == "0.png"
    assert [row.startswith(name) for row, (name, _) in zip(said["good"]["rows"], found, strict=True)] == [True] * 3
    assert said["good"]["time"].endswith(" ms")
    assert said["bad"] == {"status": "notes.png is no picture that this browser can read", "rows": [], "time": ""}
    assert said["facts"][:2] == ["Tiny!", ", ".join(CLASSES)]
