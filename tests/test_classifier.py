"""simroot.Classifier: scikit-learn's conventions, and the same training as everywhere."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from simroot import Classifier
from simroot.errors import ConfigError, DataError
from simroot.export import Predictor

QUICK: dict[str, Any] = {
    "model": "simnet2_small",
    "epochs": 1,
    "recipe": {"batch_size": 16},
    "random_state": 3,
    "validation": 0.25,
}


def some_images(count: int = 48) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Grey squares of three classes, of which two are told apart by their brightness."""
    generator = np.random.default_rng(0)
    labels = np.array(["ant", "bee", "cat"])[np.arange(count) % 3]
    images = generator.integers(0, 80, (count, 16, 16)) + 80 * (np.arange(count) % 3)[:, None, None]
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def fitted() -> Classifier:
    return Classifier(**QUICK).fit(*some_images())


def test_it_predicts_labels_as_they_were_given(fitted: Classifier) -> None:
    images, labels = some_images()
    assert fitted.classes_.tolist() == ["ant", "bee", "cat"]
    shares = fitted.predict_proba(images)
    assert shares.shape == (48, 3)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-6)  # a softmax of float32 scores
    assert (fitted.predict(images) == fitted.classes_[shares.argmax(1)]).all()
    assert fitted.score(images, labels) == (fitted.predict(images) == labels).mean()
    assert fitted.n_iter_ == 1


def test_evaluation_is_that_of_the_predictions(fitted: Classifier) -> None:
    images, labels = some_images()
    found = fitted.evaluate(images, labels)
    assert found.accuracy == fitted.score(images, labels)
    assert found.count == 48
    own = fitted.predict_proba(images)[np.arange(48), np.arange(48) % 3]
    assert found.loss == pytest.approx(-np.log(own).mean())
    with pytest.raises(DataError, match="the label dog was not among those of fit; known are ant, bee, cat"):
        fitted.evaluate(images[:2], ["ant", "dog"])


def test_images_of_every_kind_are_the_same_images(fitted: Classifier, tmp_path: Path) -> None:
    images, _ = some_images(6)
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    pictures = [Image.fromarray(image) for image in images]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    expected = fitted.predict_proba(images)
    kinds: list[Any] = [paths, [str(path) for path in paths], np.array([str(path) for path in paths]), pictures]
    kinds += [list(images), images[:, None], images[..., None], torch.from_numpy(images), images / 255.0]
    for kind in kinds:
        np.testing.assert_array_equal(fitted.predict_proba(kind), expected)


def test_paths_train_as_arrays(fitted: Classifier, tmp_path: Path) -> None:
    images, labels = some_images()
    paths = []
    for number, image in enumerate(images):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    of_paths = Classifier(**QUICK).fit(paths, labels)
    np.testing.assert_array_equal(of_paths.predict_proba(images), fitted.predict_proba(images))


@pytest.mark.slow
def test_a_seed_gives_the_same_network_and_another_another(fitted: Classifier) -> None:
    images, labels = some_images()
    again, other = clone(fitted).fit(images, labels), clone(fitted).set_params(random_state=4).fit(images, labels)
    np.testing.assert_array_equal(again.predict_proba(images), fitted.predict_proba(images))
    assert (other.predict_proba(images) != fitted.predict_proba(images)).any()


def test_it_can_be_pickled(fitted: Classifier) -> None:
    images, labels = some_images()
    again = pickle.loads(pickle.dumps(fitted))
    assert again.run_.path != fitted.run_.path
    np.testing.assert_array_equal(again.predict_proba(images), fitted.predict_proba(images))
    assert again.score(images, labels) == fitted.score(images, labels)


@pytest.mark.slow
def test_it_is_exported_and_checked(fitted: Classifier, tmp_path: Path) -> None:
    exported = fitted.export(tmp_path / "model.onnx")
    assert exported.images == len(some_images()[0]) // 4
    images, _ = some_images(6)
    found = Predictor(tmp_path / "model.onnx").predict(images[:, None])
    assert [found[number].argmax() for number in range(6)] == fitted.predict_proba(images).argmax(1).tolist()
    with pytest.raises(ConfigError, match="format is 'exe'; expected one of onnx, openvino, torch, c"):
        fitted.export(tmp_path / "model", format="exe")


@pytest.mark.slow
def test_numbers_are_labels_too() -> None:
    images, _ = some_images()
    labels = np.where(np.arange(len(images)) % 3 == 0, 70, -5)
    found = Classifier(**QUICK).fit(images, labels)
    assert found.classes_.tolist() == [-5, 70]
    assert set(found.predict(images).tolist()) <= {-5, 70}


def test_the_run_directory_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    images, labels = some_images()
    found = Classifier(**QUICK, out=tmp_path / "run").fit(images, labels)
    assert found.run_.path == tmp_path / "run"
    assert found.run_.recipe.batch_size == 16
    assert (tmp_path / "run" / "summary.json").is_file()
    with pytest.raises(ConfigError, match="holds a run"):
        found.fit(images, labels)


@pytest.mark.slow
def test_it_serves_in_pipelines_and_searches() -> None:
    images, labels = some_images()
    inverted = FunctionTransformer(lambda pictures: 255 - pictures)
    scores = cross_val_score(make_pipeline(inverted, Classifier(**QUICK)), images, labels, cv=2)
    assert scores.shape == (2,)
    grid = {"recipe": [{"batch_size": 16}, {"batch_size": 8}]}
    found = GridSearchCV(Classifier(**QUICK), grid, cv=2).fit(images, labels)
    assert found.best_params_["recipe"] in grid["recipe"]
    assert found.predict(images).shape == (48,)


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_get_params_invariance",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_set_params",
        "check_valid_tag_types",
    ],
)
def test_what_applies_of_scikit_learns_checks(check: str) -> None:
    """The others fit tables of numbers, which are no images: the tags say so."""
    getattr(estimator_checks, check)("Classifier", Classifier())
    tags = Classifier().__sklearn_tags__()
    assert (tags.input_tags.two_d_array, tags.input_tags.three_d_array) == (False, True)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((4, 64)), [0, 1, 0, 1], r"X has shape \(4, 64\)"),
        (np.zeros((4, 8, 8)), [0, 1, 0], r"y has the shape \(3,\); expected a label for each of 4 images"),
        (np.full((4, 8, 8), 7.0), [0, 1, 0, 1], "hold values from 7 to 7, expected 0 to 1"),
        ("photos", [0, 1], "X is a str; expected an array of images, or a sequence of images or paths"),
        (np.zeros((4, 8, 8)), ["a"] * 4, "1 class"),
    ],
)
def test_what_it_cannot_use_is_told(images: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Classifier(**QUICK).fit(images, labels)


def test_before_fit() -> None:
    with pytest.raises(NotFittedError):
        Classifier().predict(some_images()[0])


@pytest.mark.slow
def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).resolve().parents[1] / "docs" / "python.md"
    (example,) = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(example, names)
    assert names["classifier"].score(names["test_images"], names["test_labels"]) > 0.7  # chance is 0.1
    assert names["exported"].agreement == 1
