import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from simroot.data import ImageData, MemorySplit
from simroot.errors import DataError
from simroot.training import Run, evaluate, train
from training.support import QUICK, small_data


@pytest.fixture
def run(data: ImageData, out: Path) -> Run:
    return train("tiny", data, QUICK, out, accelerator="cpu", progress=False)


def test_figures_are_those_of_a_loop_over_single_images(run: Run, data: ImageData) -> None:
    found = evaluate(run, data.val, batch_size=7)
    matrix = [[0] * 3 for _ in range(3)]
    loss = 0.0
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (data.mean, data.std))
    for index, label in enumerate(data.val.labels.tolist()):
        pixels = data.val.read(torch.tensor([index]))[0].double() / 255
        with torch.no_grad():
            scores = run.model.double()(((pixels - mean) / std)[None])[0].tolist()
        loss += math.log(sum(map(math.exp, scores))) - scores[label]
        matrix[label][scores.index(max(scores))] += 1
    run.model.float()
    count = len(data.val)
    assert found.count == count
    assert found.confusion.tolist() == matrix
    assert found.accuracy == sum(matrix[c][c] for c in range(3)) / count
    assert found.loss == pytest.approx(loss / count, rel=1e-5)
    assert found.per_class == pytest.approx({name: matrix[c][c] / sum(matrix[c]) for c, name in enumerate(run.classes)})


def test_class_without_images(run: Run, data: ImageData) -> None:
    found = evaluate(run, data.val.subset((data.val.labels != 1).nonzero().flatten()))
    assert math.isnan(found.per_class["bee"])
    assert found.confusion[1].sum() == 0


def test_leaves_training_mode_and_is_repeatable(run: Run, data: ImageData) -> None:
    run.model.train()
    first = evaluate(run, data.val)
    assert not run.model.training
    assert evaluate(run, data.val).loss == first.loss


def test_wrong_images(run: Run, data: ImageData) -> None:
    with pytest.raises(DataError, match="no image"):
        evaluate(run, data.val.subset(torch.tensor([], dtype=torch.int64)))
    with pytest.raises(DataError, match=r"images are \(3, 16, 16\), expected \(3, 8, 8\)"):
        evaluate(run, small_data(size=16).val)
    with pytest.raises(DataError, match=r"label is 3.*knows 3 classes"):
        evaluate(run, MemorySplit(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 3])))


def test_any_network_in_place_of_the_runs(run: Run, data: ImageData) -> None:
    class Second(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([0.0, 1.0, 0.0]).expand(len(x), 3)

    found = evaluate(replace(run, model=Second()), data.val)
    assert found.per_class == {"ant": 0.0, "bee": 1.0, "cat": 0.0}
    assert found.loss == pytest.approx(math.log(2 + math.e) - found.accuracy)
