"""Tables of paths and labels: what is guessed, what is left out, what is refused."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data.written import CLASSES, hugging_face, photos
from simroot.data import ImageData, from_dataset, load
from simroot.errors import DataError

NAMES = [f"photos/{CLASSES[number % 3]}/{number:03}.png" for number in range(12)]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    photos(folder / "photos", 12)
    return folder


Table = Callable[..., Path]


@pytest.fixture
def table(root: Path) -> Table:
    """table(*lines, header=..., name=...): a file of those lines."""

    def write(*lines: str, header: str = "path,label", name: str = "t.csv", encoding: str = "utf-8") -> Path:
        (root / name).write_bytes("\n".join((header, *lines, "")).encode(encoding))
        return root / name

    return write


LINES = [f"{name},{name.split('/')[1]}" for name in NAMES]


def sizes(data: ImageData) -> tuple[int, int]:
    return len(data.train), len(data.val)


@pytest.mark.parametrize(
    "header",
    ["Image Path,Class Name", "file_name,y", "IMG,category_id,label", "split,path,label", "label_id;file;Label"],
)
def test_columns_are_guessed(table: Table, header: str) -> None:
    sign = ";" if ";" in header else ","
    columns = header.split(sign)
    place = next(
        n for n, name in enumerate(columns) if name.lower() in ("image path", "file_name", "img", "path", "file")
    )
    label = next(n for n, name in enumerate(columns) if name.lower() in ("class name", "y", "label"))
    rows = []
    for name in NAMES:
        cells = ["train"] * len(columns)
        cells[place], cells[label] = name, name.split("/")[1]
        rows.append(sign.join(cells))
    data = load(table(*rows, header=header))
    assert data.classes == ("ant", "bee", "cat")
    assert sizes(data) == (10, 2)


def test_columns_that_are_named(table: Table) -> None:
    rows = [f"{n},x,{name},{name.split('/')[1]},{'val' if n < 3 else 'TRAINING'}" for n, name in enumerate(NAMES)]
    path = table(*rows, header="n,label,where,kind,fold")
    data = load(path, image_column="where", label_column="kind", split_column="fold")
    assert sizes(data) == (9, 3)
    assert data.origins == ("train of t.csv", "val of t.csv")
    with pytest.raises(DataError, match=r"which column holds the images\? Its columns are n, label, where, kind, fold"):
        load(path)
    with pytest.raises(DataError, match="has no column 'what'"):
        load(path, image_column="what")
    with pytest.raises(DataError, match="has two columns 'path'"):
        load(table(*LINES, header="path,path"), image_column="path", label_column="path")


def test_paths_start_from_a_folder_that_is_named(table: Table, root: Path) -> None:
    rows = [line.removeprefix("photos/") for line in LINES]
    path = table(*rows)
    with pytest.raises(DataError, match=r"12 rows whose file does not exist .*--image-root names the folder"):
        load(path)
    assert sizes(load(path, image_root=root / "photos")) == (10, 2)


def test_signs_of_windows_and_whole_paths(table: Table, root: Path) -> None:
    rows = [*(line.replace("/", "\\") for line in LINES[:6]), *(f"{root}/{line}" for line in LINES[6:])]
    assert sizes(load(table(*rows))) == (10, 2)


@pytest.mark.parametrize("text", ["../photos/x.png", "/etc/passwd", "C:\\x.png", "photos/../../x.png", "..\\..\\x.png"])
def test_paths_that_lead_out(table: Table, text: str) -> None:
    with pytest.raises(DataError, match=r"t\.csv, line 14: .* leads out of .*--image-root"):
        load(table(*LINES, f"{text},ant"))


@pytest.mark.parametrize(
    "text", ["https://example.org/x.png", "s3://b/x.png", "file:///etc/passwd", "data:image/png,x"]
)
def test_addresses(table: Table, text: str) -> None:
    with pytest.raises(DataError, match=r"line 14: .* is an address: images are read from files; download them"):
        load(table(*LINES, f'"{text}",ant'))


def test_what_is_left_out_is_counted(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    odd = [f"{NAMES[0]},ant", "photos/none.png,ant", ",ant", f"{NAMES[1]},", f"{NAMES[2]},NaN", ""]
    with caplog.at_level(logging.WARNING, "simroot"):
        assert sizes(load(table(*LINES, *odd))) == (10, 2)
    message = caplog.records[0].getMessage()
    assert "1 row that repeats another (t.csv, line 14)" in message
    assert "1 row whose file does not exist" in message
    assert "1 row without an image (t.csv, line 16)" in message
    assert "2 rows without a label (the first: t.csv, line 17)" in message


def test_a_corrupt_image_is_named(table: Table, root: Path) -> None:
    (root / "bad.png").write_bytes(b"no image")
    data = load(table(*LINES, "bad.png,ant"))
    assert data.skipped == ("bad.png",)
    assert sizes(data) == (10, 2)


def test_a_pipe_is_no_image(table: Table, root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    assert sizes(load(table(*LINES, "pipe.png,ant"))) == (10, 2)
    os.mkfifo(root / "pipe.csv")
    with pytest.raises(DataError, match="is a pipe or device"):
        load(root / "pipe.csv")


def test_labels_of_every_kind(root: Path) -> None:
    labels = [1, 1.0, "1", "1.0", True, "true", "a ", "a", "e\u0301", "\u00e9", None, float("nan")]
    lines = [json.dumps({"path": name, "label": label}) for name, label in zip(NAMES, labels, strict=True)]
    (root / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    data = load(root / "t.jsonl", validation=1)
    assert data.classes == ("1", "a", "true", "\u00e9")
    assert sizes(data) == (9, 1)


@pytest.mark.parametrize(
    ("label", "message"), [(0.5, "the label is 0.5"), ([1, 2], r"the label is \[1, 2\]"), ({"a": 1}, "the label is")]
)
def test_labels_that_are_none(root: Path, label: object, message: str) -> None:
    (root / "t.jsonl").write_text(json.dumps({"path": NAMES[0], "label": label}), encoding="utf-8")
    with pytest.raises(DataError, match=rf"t\.jsonl, line 1: {message}"):
        load(root / "t.jsonl")


def test_two_labels_of_an_image(table: Table) -> None:
    with pytest.raises(DataError, match=r"t\.csv, line 2 and t\.csv, line 14 give .* the labels 'ant' and 'bee'"):
        load(table(*LINES, f"{NAMES[0]},bee"))


def test_parts_with_other_classes(table: Table, caplog: pytest.LogCaptureFixture) -> None:
    """A part may lack a class, but not the one to train on."""
    rows = [f"{line},{'test' if n in (0, 3) else 'train'}" for n, line in enumerate(LINES)]
    data = load(table(*rows, header="path,label,split"))
    assert sizes(data) == (10, 2)
    assert "has no validation image of bee, cat" in caplog.text
    rows = [f"{line},{'val' if ',ant' in line else 'train'}" for line in LINES]
    with pytest.raises(DataError, match="only in validation: ant"):
        load(table(*rows, header="path,label,split"))
    with pytest.raises(DataError, match="the part is 'extra'; expected train, val or test"):
        load(table(f"{LINES[0]},extra", header="path,label,split"))
    assert sizes(load(table(*[f"{line},extra" for line in LINES], header="path,label,split"), split_column="")) == (
        10,
        2,
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Its columns are none"),
        (b"path,label\n", "holds no images: it has no rows"),
        (b"path,label\na,b,c\n", "line 2: 3 cells, but 2 columns"),
        (b'path,label\n"a,b\n', "is no readable table: unexpected end of data"),
        (b"path,label\n" + b"a" * 200_000 + b",b\n", "is no readable table: field larger"),
        (b"path,label\n\xff\xfe,b\n", "is not written in UTF-8"),
        ("path,label\n".encode("utf-16"), "is not written in UTF-8"),
        (b"path,label\na\0b,ant\n", "(is no path|NUL)"),
    ],
)
def test_tables_that_are_none(root: Path, content: bytes, message: str) -> None:
    (root / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(root / "t.csv")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7", "line 1 is 7; expected an object"),
        ("{", "line 1 is no JSON"),
        ("[" * 100_000, "line 1 is no JSON"),
        (f'{{"a": "{"x" * 2**20}"}}', "characters or more"),
        ('{"label": "a", "path": null}', "row without an image"),
        ('{"path": 7, "label": "a"}', "the image is 7; expected its path"),
    ],
)
def test_lines_of_json_that_are_none(root: Path, line: str, message: str) -> None:
    (root / "t.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        load(root / "t.jsonl")


def test_marks_of_order_and_lines_in_quotes(root: Path) -> None:
    odd = root / 'a "b"\nc.png'
    odd.write_bytes((root / NAMES[0]).read_bytes())
    text = "\r\n".join(("path,label", *LINES, '"a ""b""\nc.png",ant', ""))
    (root / "t.csv").write_bytes(text.encode("utf-8-sig"))
    assert sizes(load(root / "t.csv")) == (10, 3)


def test_more_than_fits(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simroot.data.tables.memory_budget", lambda: 2000)
    with pytest.raises(DataError, match="holds more than fits in memory"):
        load(table(*LINES))
    monkeypatch.setattr("simroot.data.objects.memory_budget", lambda: 20)
    with pytest.raises(DataError, match="holds more images than fit in memory"):
        from_dataset([(bytes(30), 0)])


def test_a_folder_with_a_table_of_its_images(tmp_path: Path) -> None:
    """As Hugging Face's imagefolder takes it."""
    (path, _), *_ = photos(tmp_path / "photos", 1)
    folder = tmp_path / "flat"
    folder.mkdir()
    path.rename(folder / "1.png")
    (folder / "metadata.csv").write_text("file_name,label")
    with pytest.raises(DataError, match=r"if metadata\.csv says the classes, give it as --data"):
        load(folder)


def test_arrow_files_that_lie_about_lengths(tmp_path: Path) -> None:
    """pyarrow by itself reads beyond its memory, and the process ends."""
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = arrow.table({"path": ["a.png"] * 4, "label": ["a", "b", "a", "b"]})
    with arrow.ipc.new_stream(tmp_path / "t.arrow", table.schema) as stream:
        stream.write_table(table)
    content = (tmp_path / "t.arrow").read_bytes()
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, 5, 10, 15, 20))
    assert content.count(offsets) == 1
    (tmp_path / "t.arrow").write_bytes(content.replace(offsets, offsets[:-4] + b"\xff\xff\xff\x6f"))
    with pytest.raises(DataError, match=r"t\.arrow cannot be read"):
        load(tmp_path / "t.arrow")


def test_damaged_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pictures = photos(tmp_path / "photos", 12)
    parquet.write_table(hugging_face(pictures), tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    for damaged in (b"", content[:-9], content[:400] + b"\0" * 2000 + content[2400:]):
        (tmp_path / "t.parquet").write_bytes(damaged)
        with pytest.raises(DataError, match=r"t\.parquet"):
            load(tmp_path / "t.parquet")


def test_parquet_of_other_kinds(tmp_path: Path) -> None:
    """Paths, bytes without a struct, missing images, labels beyond the schema's and those that stand for none."""
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    pictures = photos(tmp_path / "photos", 12)
    words = [label for _, label in pictures]
    paths = [str(path.relative_to(tmp_path)) for path, _ in pictures]
    for images in (paths, [path.read_bytes() for path, _ in pictures]):
        table = arrow.table({"picture": images, "label": arrow.array(words).dictionary_encode()})
        parquet.write_table(table, tmp_path / "t.parquet")
        assert sizes(load(tmp_path / "t.parquet")) == (10, 2)
    table = hugging_face(pictures)
    for label, message in ((3, "row 12: the label is 3; the schema names 3"), (-1, "")):
        more = arrow.Table.from_pylist([{"image": None, "label": label}], table.schema)
        parquet.write_table(arrow.concat_tables([table, more]), tmp_path / "t.parquet")
        if message:
            with pytest.raises(DataError, match=message):
                load(tmp_path / "t.parquet")
        else:
            assert sizes(load(tmp_path / "t.parquet")) == (10, 2)


def test_a_saved_set_that_names_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    for names in ('[{"filename": "../x.arrow"}]', "[]", "7", '[{"filename": 7}]'):
        (tmp_path / "state.json").write_text(f'{{"_data_files": {names}}}')
        with pytest.raises(DataError, match=r"state\.json is damaged"):
            load(tmp_path)


def test_parquet_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"need pyarrow, .* pip install 'simroot\[tables\]'"):
        load(tmp_path / "t.parquet")
