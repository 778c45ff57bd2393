"""Images with any number of classes: the same data in every form, parts that leave every class something, errors."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.written import photos, write_json_shards, write_shards
from simroot.data import ImageData, from_arrays, from_dataset, load, load_test
from simroot.data.balance import positive_weights
from simroot.data.classes import class_lines
from simroot.data.groups import grouped
from simroot.data.mixing import Mixing
from simroot.data.splits import stratified
from simroot.errors import DataError

CLASSES = ("ant", "bee", "cat")
Labelled = Sequence[tuple[Path, list[str]]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def pictures(root: Path) -> Labelled:
    """Every eighth image has none of the classes, every eighth all of them."""
    (root / "all").mkdir()
    found = [path.rename(root / "all" / path.name) for path, _ in photos(root / "photos", 40)]
    return [
        (path, [name for bit, name in enumerate(CLASSES) if number >> bit & 1][::-1])
        for number, path in enumerate(found)
    ]


def write_csv(path: Path, pictures: Labelled, sign: str = ",") -> Path:
    with path.open("w", newline="") as file:
        table = csv.writer(file, delimiter=sign)
        table.writerow(["filename", "labels"])
        table.writerows((image.relative_to(path.parent), " | ".join(names)) for image, names in pictures)
    return path


def write_marks(path: Path, pictures: Labelled) -> Path:
    """A column of 0 and 1 for each class, and the index that pandas writes."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["", "filename", *CLASSES])
        for number, (image, names) in enumerate(pictures):
            table.writerow([number, image.relative_to(path.parent), *(int(name in names) for name in CLASSES)])
    return path


def write_tsv(path: Path, pictures: Labelled) -> Path:
    return write_csv(path, pictures, "\t")


def write_jsonl(path: Path, pictures: Labelled) -> Path:
    path.write_text("\n".join(json.dumps({"file_name": str(image), "labels": names}) for image, names in pictures))
    return path


def write_words(path: Path, pictures: Labelled) -> Path:
    """Texts with | between."""
    lines = [json.dumps({"file_name": str(image), "labels": "|".join(names)}) for image, names in pictures]
    path.write_text("\n".join(lines))
    return path


def write_parquet(path: Path, pictures: Labelled, kind: str = "Sequence") -> Path:
    """Numbers, whose names are in the schema."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    names = {"_type": "ClassLabel", "names": list(CLASSES)}
    label = [names] if kind == "[]" else {"_type": kind, "feature": names}
    features = {"image": {"_type": "Image"}, "labels": label}
    image = arrow.struct([("bytes", arrow.binary()), ("path", arrow.string())])
    schema = arrow.schema(
        [("image", image), ("labels", arrow.list_(arrow.int64()))],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    rows = [
        {"image": {"bytes": file.read_bytes(), "path": str(file)}, "labels": [CLASSES.index(name) for name in names]}
        for file, names in pictures
    ]
    parquet.write_table(arrow.Table.from_pylist(rows, schema), path)
    return path


def write_list(path: Path, pictures: Labelled) -> Path:
    return write_parquet(path, pictures, "List")


def write_brackets(path: Path, pictures: Labelled) -> Path:
    return write_parquet(path, pictures, "[]")


def write_class_files(path: Path, pictures: Labelled) -> Path:
    return write_shards(path, [(image, "|".join(names)) for image, names in pictures])


def write_lists(path: Path, pictures: Labelled) -> Path:
    return write_json_shards(path, [(image, names) for image, names in pictures])  # type: ignore[misc]


FORMS: dict[str, Callable[[Path, Labelled], Path]] = {
    "t.csv": write_csv,
    "marks.csv": write_marks,
    "t.tsv": write_tsv,
    "t.jsonl": write_jsonl,
    "words.jsonl": write_words,
    "t.parquet": write_parquet,
    "list.parquet": write_list,
    "brackets.parquet": write_brackets,
    "shards": write_class_files,
    "json-shards": write_lists,
}


@pytest.fixture(scope="module")
def expected(root: Path, pictures: Labelled) -> ImageData:
    return load(write_csv(root / "first.csv", pictures), multi_label=True)


def assert_same(found: ImageData, expected: ImageData) -> None:
    for one, other in ((found.train, expected.train), (found.val, expected.val)):
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.read(torch.arange(len(one))), other.read(torch.arange(len(other))))
    assert (found.classes, found.mean, found.multi_label) == (expected.classes, expected.mean, True)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_the_same_data(root: Path, pictures: Labelled, expected: ImageData, form: str) -> None:
    path = FORMS[form](root / form, pictures)
    assert_same(load(path, multi_label=True), expected)
    if form in ("t.jsonl", "t.parquet", "json-shards"):
        with pytest.raises(DataError, match=r"the label is \[.*\]; expected one word .*; --multi-label takes lists"):
            load(path)


def test_columns_of_zeros_and_ones(root: Path, pictures: Labelled, expected: ImageData) -> None:
    path = write_marks(root / "named.csv", pictures)
    path.write_text(path.read_text().replace(",filename", "id,filename"))
    assert_same(load(path, multi_label=True, label_column="ant,bee,cat"), expected)
    with pytest.raises(DataError, match=r"line 4: column 'id' holds '2'; expected 0 or 1, .*, as in a,b"):
        load(path, multi_label=True)
    with pytest.raises(DataError, match="no column 'ant,dog'"):
        load(path, multi_label=True, label_column="ant,dog")
    with pytest.raises(DataError, match="which column holds the labels"):
        load(path)
    with pytest.raises(DataError, match="two columns 'ant'"):
        load(path, multi_label=True, label_column="ant,ant")


def test_texts_with_the_sign_are_one_class_unless_it_is_said(
    root: Path, pictures: Labelled, caplog: pytest.LogCaptureFixture
) -> None:
    data = load(write_csv(root / "one.csv", [(image, names) for image, names in pictures if names]))
    assert data.classes[:3] == ("ant", "bee", "bee | ant")
    assert (
        "one.csv: 'bee | ant' is taken for one class; --multi-label takes what is between | for classes" in caplog.text
    )


def test_labels_are_those_of_the_table(pictures: Labelled, expected: ImageData, root: Path) -> None:
    assert expected.classes == CLASSES
    assert (expected.train.labels.dtype, len(expected.val)) == (torch.uint8, 8)
    assert expected.train.names is not None
    named = {str(path.relative_to(root)): names for path, names in pictures}
    for name, row in zip(expected.train.names, expected.train.labels.tolist(), strict=True):
        assert [own for own, mark in zip(CLASSES, row, strict=True) if mark] == sorted(named[name])
    line = class_lines(expected)[0]
    counts = expected.train.labels.sum(0).tolist()
    none = int((expected.train.labels.sum(1) == 0).sum())
    assert line.endswith(f": ant {counts[0]}, bee {counts[1]}, cat {counts[2]}; {none} with no class")
    test = load_test(root / "first.csv", classes=("x", *CLASSES), image_size=8, channels=3, multi_label=True)
    assert test.labels.shape == (40, 4)
    assert test.labels[:, 0].sum() == 0
    with pytest.raises(DataError, match="has classes that the network does not know: cat"):
        load_test(root / "first.csv", classes=CLASSES[:2], image_size=8, channels=3, multi_label=True)


def test_objects_are_the_same_data(pictures: Labelled, expected: ImageData) -> None:
    ordered = sorted(pictures, key=lambda pair: ("|".join(sorted(pair[1])), str(pair[0])))
    marks = [torch.tensor([int(name in names) for name in CLASSES]) for _, names in ordered]
    images = [path.read_bytes() for path, _ in ordered]
    assert_same(from_dataset([*zip(images, (names for _, names in ordered), strict=True)], multi_label=True), expected)
    assert_same(from_dataset([*zip(images, marks, strict=True)], classes=CLASSES, multi_label=True), expected)
    whole = from_dataset([*zip(images, marks, strict=True)], classes=CLASSES, multi_label=True, validation=1)
    pixels, labels = whole.train.read(torch.arange(39)), whole.train.labels
    arrays = from_arrays(pixels, labels, CLASSES, multi_label=True)
    assert len(arrays.train) + len(arrays.val) == 39
    assert from_arrays(pixels, labels, multi_label=True).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"a": 1}, "the label is .*; expected one word or whole number"),
        ([["ant"]], r"the label has \['ant'\] inside; expected a list"),
        ([1.5], r"the label is 1\.5; expected one word or whole number"),
        (["a|b"], r"the class 'a\|b' has \| inside, which stands between classes"),
    ],
)
def test_labels_that_are_none(root: Path, label: object, message: str) -> None:
    path = root / "odd.jsonl"
    path.write_text(json.dumps({"file": "x.png", "label": label}))
    with pytest.raises(DataError, match=rf"odd\.jsonl, line 1: {message}"):
        load(path, multi_label=True)


def test_no_label_is_not_no_class(root: Path, pictures: Labelled, caplog: pytest.LogCaptureFixture) -> None:
    """Null and NaN are left out; an empty list, and an empty cell, is an image without any class."""
    lines = [json.dumps({"file": str(image), "label": names}) for image, names in pictures]
    lines[0] = json.dumps({"file": str(pictures[0][0]), "label": None})
    lines[1] = json.dumps({"file": str(pictures[1][0]), "label": "NaN"})
    (root / "none.jsonl").write_text("\n".join(lines))
    data = load(root / "none.jsonl", multi_label=True)
    assert len(data.train) + len(data.val) == 38
    assert "2 rows without a label (the first: none.jsonl, line 1)" in caplog.text


@pytest.mark.parametrize(
    ("labels", "several", "message"),
    [
        (np.zeros((6, 3)), False, r"labels has shape \(6, 3\), expected one per image; multi_label=True takes 0 and 1"),
        (np.zeros(6, int), True, r"labels has shape \(6,\), expected 0 or 1 in \(6, classes\)"),
        (np.full((6, 3), 2), True, r"expected 0 or 1 in \(6, classes\)"),
        (np.ones((6, 1), int), True, r"1 class \(0\): expected at least 2"),
        (np.eye(3, dtype=int)[[0, 1] * 3], True, "has no training image of 2"),
    ],
)
def test_arrays_that_do_not_fit(labels: np.ndarray, several: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays(np.zeros((6, 8, 8), np.uint8), labels, multi_label=several)


@pytest.mark.parametrize(
    ("label", "several", "message"),
    [
        (["a"], False, r"the label \['a'\]; expected a whole number or a word; multi_label=True takes lists"),
        ("a", True, "the label 'a'; expected a list, since multi_label is True"),
        (np.array([0, 3]), True, r"a label of the shape \(2,\); expected 0 or 1 for each class"),
    ],
)
def test_pairs_that_do_not_fit(label: object, several: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_dataset([(np.zeros((8, 8), np.uint8), label)], multi_label=several)


def test_a_held_out_part_leaves_something_of_every_class() -> None:
    """Of the rare classes too, as far as there are enough others."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(200, 8, generator=generator) < torch.tensor([0.5, 0.3] + [0.01] * 6)).byte()
    labels[torch.arange(6), torch.arange(2, 8)] = 1
    for seed in range(10):
        chosen, rest = stratified(labels, 150, seed, leave=1)
        assert torch.equal(torch.cat((chosen, rest)).sort().values, torch.arange(200))
        assert len(chosen) == 150
        assert bool(labels[rest].any(0).all())
    assert torch.equal(stratified(labels, 20, 3)[0], stratified(labels, 20, 3)[0])
    assert not torch.equal(stratified(labels, 20, 3)[0], stratified(labels, 20, 4)[0])
    assert len(stratified(torch.eye(5).byte(), 3, 0, leave=1)[0]) == 3  # nothing can be left of every class


def test_classes_keep_their_proportions() -> None:
    """In a fifth of the images is a fifth of every class and of the images without one: to an image or two, and of the
    commonest class, whose images come last, to five.
    """
    generator = torch.Generator().manual_seed(0)
    shares = torch.tensor([0.5, 0.2, 0.1, 0.05, 0.02])
    labels = (torch.rand(500, 5, generator=generator) < shares).byte()
    expected = torch.cat((labels.sum(0), (labels.sum(1) == 0).sum()[None])) / 5
    for seed in range(5):
        chosen, _ = stratified(labels, 100, seed, leave=1)
        assert len(chosen) == 100
        found = torch.cat((labels[chosen].sum(0), (labels[chosen].sum(1) == 0).sum()[None]))
        assert float((found - expected)[1:].abs().max()) < 2
        assert abs(float(found[0] - expected[0])) <= 5


def test_groups_stay_on_one_side() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(60, 3, generator=generator) < 0.4).byte()
    groups = [f"person {number // 4}" for number in range(60)]
    held_out, rest = grouped(labels, groups, 12, seed=1)
    assert {groups[index] for index in held_out}.isdisjoint(groups[index] for index in rest)
    assert len(held_out) == 12
    assert bool(labels[rest].any(0).all())


def test_weights_and_mixtures() -> None:
    labels = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 1]], dtype=torch.uint8)
    assert positive_weights(labels).tolist() == pytest.approx([1 / 3, 1])
    mixture = Mixing(mixup=1.0).draw(4, (2, 2), np.random.default_rng(0))
    share = mixture.shares[:, 0, 0]
    expected = share * labels + (1 - share) * labels[mixture.partners]
    torch.testing.assert_close(mixture.targets(labels, 2), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"label_column": "kind"},
            r"holds class folders, .*; --label-column 'kind' \(label_column= of load\) goes with",
        ),
        ({"image_column": "x"}, "--image-column 'x'"),
        ({"split_column": ""}, "--split-column ''"),
        ({"image_root": "."}, "--image-root '.'"),
        ({"multi_label": True}, r"--multi-label \(multi_label= of load\) goes with tables"),
    ],
)
def test_what_is_said_of_columns_goes_with_tables(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    photos(tmp_path, 6)
    for path in (tmp_path, "digits"):
        wanted = message if path != "digits" else message.replace("holds class folders", "digits is a named set")
        with pytest.raises(DataError, match=wanted):
            load(path, **arguments)
        with pytest.raises(DataError, match=wanted):
            load_test(path, classes=CLASSES, image_size=8, channels=3, **arguments)
    with pytest.raises(DataError, match="digits is a named set without folders: leave out --group-level"):
        load("digits", group_level=1)
