"""Files of networks whose images may have any number of classes: what they say of themselves, and of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.c.networks import need_compiler as need_c
from export.networks import require_onnx
from export.web.pages import CLASSES, MEAN, STD, in_node, need_compiler, network, options, pictures
from simroot.data import normalise
from simroot.errors import ExportError
from simroot.export import Predictor, evaluate_file, to_c, to_onnx, to_web
from simroot.export.description import Description
from simroot.export.evaluation import Evaluation
from simroot.export.multi_label import MultiLabelEvaluation

SIZE = (3, 9, 9)
THRESHOLDS = (0.6, 0.3, 0.5)
PIXELS = np.random.default_rng(2).integers(0, 256, (60, *SIZE), dtype=np.uint8)
LABELS = (np.random.default_rng(3).random((60, 3)) < 0.5).astype(np.uint8)


def several() -> Any:
    return {**options(), "thresholds": THRESHOLDS}


@pytest.fixture(scope="module")
def expected() -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return network()(normalise(torch.from_numpy(PIXELS), MEAN, STD)).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_onnx()
    path = tmp_path_factory.mktemp("several") / "a.onnx"
    assert to_onnx(network(), path, SIZE, **several(), images=PIXELS, labels=LABELS).agreement == 1
    return path


def test_what_a_file_says(exported: Path, expected: np.ndarray[Any, Any]) -> None:
    card = json.loads((exported.parent / "a.onnx.json").read_text())
    assert (card["thresholds"], card["format"]) == ([*THRESHOLDS], "1.2")
    assert "accuracy" not in card["measured"]
    predictor = Predictor(exported)
    shares = 1 / (1 + np.exp(-expected.astype(float)))
    np.testing.assert_allclose(predictor.predict(PIXELS), shares, rtol=1e-4)
    for named, own in zip(predictor.classify(PIXELS), shares, strict=True):
        present = {CLASSES[k] for k in range(3) if own[k] >= THRESHOLDS[k]}
        assert {name for name, _ in named} == present
        assert [share for _, share in named] == sorted((share for _, share in named), reverse=True)
    assert [len(named) for named in predictor.classify(PIXELS, top=2)] == [2] * 60
    found = evaluate_file(predictor, [(PIXELS[:40], LABELS[:40]), (PIXELS[40:], LABELS[40:])])
    own = MultiLabelEvaluation.of(CLASSES, THRESHOLDS, expected, LABELS)
    assert found.right == own.right
    assert found.loss == pytest.approx(own.loss)
    precision = pytest.approx(own.mean_average_precision)
    assert card["measured"]["mean_average_precision"] == found.mean_average_precision == precision


def test_images_with_one_class_say_what_they_did(tmp_path: Path) -> None:
    """Older versions read such a file."""
    properties = Description(SIZE, CLASSES, MEAN, STD).properties()
    assert "simroot.thresholds" not in properties
    assert properties["simroot.format"] == '"1"'
    assert set(Evaluation.columns) < set(MultiLabelEvaluation.columns)


@pytest.mark.parametrize("thresholds", [(0.5, 0.5), (0.5, float("nan"), 0.5), ("a", "b", "c")])
def test_thresholds_that_cannot_be_used(thresholds: Any) -> None:
    with pytest.raises(ExportError, match=r"thresholds is .*; expected a number for each class that is named"):
        Description(SIZE, CLASSES, MEAN, STD, thresholds=thresholds)


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    require_onnx()
    with pytest.raises(ExportError, match=r"labels are int64 \(60,\); expected an integer for each image and class"):
        to_onnx(network(), tmp_path / "a.onnx", SIZE, **several(), images=PIXELS, labels=np.zeros(60, int))
    assert not [*tmp_path.iterdir()]


def test_c_has_the_thresholds(expected: np.ndarray[Any, Any], tmp_path: Path) -> None:
    need_c()
    to_c(network(), tmp_path / "c", SIZE, **several(), images=PIXELS[:4])
    header, source = ((tmp_path / "c" / f"tiny.{kind}").read_text() for kind in "hc")
    assert "extern const float tiny_thresholds[TINY_CLASSES];" in header
    assert "all scores (before a sigmoid)" in header
    (line,) = [line for line in source.splitlines() if line.startswith("const float tiny_thresholds")]
    written = [float(number.rstrip("F")) for number in line.split("{")[1].rstrip("};").split(", ")]
    np.testing.assert_allclose(written, np.log(THRESHOLDS) - np.log(1 - np.array(THRESHOLDS)), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(expected >= written, 1 / (1 + np.exp(-expected.astype(float))) >= THRESHOLDS)
    predictor = Predictor(tmp_path / "c" / "tiny.c")
    shares = 1 / (1 + np.exp(-expected[0].astype(float)))
    assert {name for name, _ in predictor.classify(PIXELS[0])[0]} == {
        name for name, share, least in zip(CLASSES, shares, THRESHOLDS, strict=True) if share >= least
    }


def test_javascript_names_the_classes_of_the_predictor(tmp_path: Path) -> None:
    need_compiler()
    page = to_web(network(), tmp_path / "page", SIZE, **several(), images=PIXELS[:4]).path
    images = pictures(3)
    scores, said = in_node(page, images, tmp_path)
    shares = 1 / (1 + np.exp(-scores[0].astype(float)))
    for best, index in zip(said["best"], np.argsort(-shares)[:2].tolist(), strict=True):
        assert (best["name"], best["threshold"]) == (CLASSES[index], THRESHOLDS[index])
        assert best["probability"] == pytest.approx(shares[index])
        assert best["present"] == (shares[index] >= THRESHOLDS[index])
    assert (page / "index.html").read_text().count("thresholds") > 0
