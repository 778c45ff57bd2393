"""Training with scikit-learn's conventions: fit, predict, score, and all that is built on them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from simroot.data import from_dataset
from simroot.data.arrays import pixels
from simroot.errors import DataError, counted
from simroot.export.writers import writer
from simroot.images.decoding import Picture
from simroot.images.preparation import ImageSize
from simroot.models.own import Network
from simroot.training import Choice, choose, export_options, load_run, recipe, train
from simroot.training.card import write_card
from simroot.training.defaults import registered
from simroot.training.evaluation import Evaluation, of_one_class

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from simroot.export import Exported

Pictures = ArrayLike | Sequence[Picture]


class Classifier(ClassifierMixin, BaseEstimator):
    """An image classifier with scikit-learn's conventions, around the same training as ``simroot train``.

    Args:
        model: a name of ``simroot.list_models()``; None for the network and recipe that suit the images; or a network
            of your own, as ``simroot.training.train`` takes it.
        overrides: arguments of the network's builder.
        recipe: fields of the recipe that are to be other than the network's own, such as ``{"learning_rate": 0.1}``.
        epochs: of the training; None for the recipe's.
        random_state: of the weights, the order of images and the held-out part: an int gives the same network again.
        image_size: side, or height and width, to which images are brought; None as ``simroot.data.load``.
        validation: what ``fit`` holds out to find the best epoch: a share or a number of images.
        initial: a run directory or a file of weights to start from.
        out: the run directory to make, which must not hold a run; None for a folder that lives as long as the object.
        progress: show the progress on standard error.

    Attributes:
        classes_ (NDArray): the labels, sorted; the columns of ``predict_proba``.
        run_ (Run): the trained network with all there is to know about it.
        n_iter_ (int): epochs trained.

    Images are arrays (N,H,W), (N,C,H,W) or (N,H,W,C) of uint8, of whole numbers in 0..255 or of floats in 0..1, or a
    sequence of paths, of images of Pillow's or of single arrays.
    """

    def __init__(
        self,
        model: Network | None = None,
        *,
        overrides: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        epochs: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        image_size: ImageSize | None = None,
        validation: float | int | None = None,
        initial: str | Path | None = None,
        out: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        self.model = model
        self.overrides = overrides
        self.recipe = recipe
        self.epochs = epochs
        self.random_state = random_state
        self.image_size = image_size
        self.validation = validation
        self.initial = initial
        self.out = out
        self.progress = progress

    def fit(self, X: Pictures, y: ArrayLike) -> Classifier:
        """Train on images and their labels, which may be words or numbers.

        Raises:
            DataError: for images or labels that cannot be used, or fewer than two classes.
            ConfigError, TrainingError, TrainingInterrupted: as ``simroot.training.train``.
        """
        images = _pictures(X)
        classes, numbers = np.unique(_labels(y, len(images)), return_inverse=True)
        seed = self._seed()
        data = from_dataset(
            list(zip(images, numbers.tolist(), strict=True)),
            classes=[str(label) for label in classes.tolist()],
            image_size=self.image_size,
            validation=self.validation,
            seed=seed,
            name="images",
        )
        choice = choose(data) if self.model is None else Choice("", changes=registered(self.model).to_dict())
        changes = {**choice.changes, **(self.recipe or {}), "seed": seed}
        if self.epochs is not None:
            changes["epochs"] = self.epochs
        how = recipe(**changes)
        overrides = {**choice.overrides, **(self.overrides or {})}
        out = self._temporary() if self.out is None else self.out
        self.run_ = train(
            choice.model if self.model is None else self.model,
            data,
            how,
            out,
            overrides=overrides,
            initial=self.initial,
            progress=self.progress,
            notes=choice.notes(how, overrides),
        )
        self.classes_ = classes
        self.n_iter_ = self.run_.summary["epochs"]
        return self

    def predict_proba(self, X: Pictures) -> NDArray[np.float64]:
        """Probabilities (N, classes), in the order of ``classes_``.

        Raises:
            NotFittedError: before ``fit``.
            DataError: for images that cannot be used.
        """
        check_is_fitted(self, "run_")
        return self.run_.predict(_pictures(X))

    def predict(self, X: Pictures) -> NDArray[Any]:
        """The most probable label of each image (N,); raises as ``predict_proba``."""
        highest = self.predict_proba(X).argmax(1)
        return self.classes_[highest]

    def evaluate(self, X: Pictures, y: ArrayLike) -> Evaluation:
        """Accuracy, loss, confusion and how every class does, on other images than those of ``fit``.

        Raises:
            NotFittedError: before ``fit``.
            DataError: for images that cannot be used, or a label that ``fit`` has not seen.
        """
        found = self.predict_proba(X)
        labels = _labels(y, len(found))
        if unknown := sorted({str(label) for label in np.setdiff1d(labels, self.classes_)}):
            raise DataError(
                f"the label {unknown[0]} was not among those of fit; known are {', '.join(self.run_.classes)}"
            )
        index = np.searchsorted(self.classes_, labels)
        logarithms = np.log(np.maximum(found, np.finfo(np.float64).tiny))  # their softmax are the probabilities
        return of_one_class(self.run_, [(torch.from_numpy(logarithms), torch.from_numpy(index))])

    def export(self, path: str | Path, *, format: str = "onnx", int8: bool = False, calibration: int = 512) -> Exported:
        """Write the network for a device, checked against it on the images that ``fit`` held out, and its model card.

        Args:
            path: the file, or the folder of C or of a web page.
            format: "onnx", "openvino", "torch", "c" or "web".
            int8: compute in 8 bits.
            calibration: images that show the ranges for int8.

        Raises:
            NotFittedError: before ``fit``.
            ConfigError: for another format.
            ExportError: if the file does not compute what the network does.
        """
        check_is_fitted(self, "run_")
        write = writer(format)
        options = export_options(self.run_, calibration=calibration if int8 else None)
        exported = write(self.run_.model, path, self.run_.preparation.shape, **options)
        write_card(self.run_, exported)
        return exported

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    def _temporary(self) -> Path:
        """A run directory that goes with the object."""
        folder = tempfile.mkdtemp(prefix="simroot-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder) / "run"

    def __getstate__(self) -> dict[str, Any]:
        """A temporary run directory travels with the object."""
        state: dict[str, Any] = dict(super().__getstate__())
        if self.out is None and "run_" in state:
            state["run_"] = {path.name: path.read_bytes() for path in self.run_.path.iterdir()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if isinstance(files := state.get("run_"), dict):
            path = self._temporary()
            path.mkdir()
            for name, content in files.items():
                (path / name).write_bytes(content)
            self.run_ = load_run(path, model=self.model)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def _pictures(images: Pictures) -> list[Any]:
    """One after the other: files and Pillow's images as they are, arrays as uint8 (H,W,C)."""
    if isinstance(images, np.ndarray | Tensor):
        array = np.asarray(images)
        return array.tolist() if array.dtype.kind in "OU" else _arrays(array)
    if isinstance(images, str | Path) or not isinstance(images, Sequence):
        raise DataError(
            f"X is a {type(images).__name__}; expected an array of images, or a sequence of images or paths"
        )
    return [_arrays(np.asarray(one)[None])[0] if isinstance(one, np.ndarray | Tensor) else one for one in images]


def _arrays(array: NDArray[Any]) -> list[NDArray[np.uint8]]:
    return [image.permute(1, 2, 0).numpy() for image in pixels(array, "X", rectangles=True)]


def _labels(y: ArrayLike, count: int) -> NDArray[Any]:
    labels = np.asarray(y)
    if labels.ndim != 1 or len(labels) != count:
        raise DataError(f"y has the shape {labels.shape}; expected a label for each of {counted(count, 'image')}")
    return labels
