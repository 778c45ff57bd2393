"""Single images and calibration, against loops written from the definitions."""

import pytest
import torch

from simroot.report.looked import Looked, calibration, looked_at
from simroot.report.several import LookedSeveral


@pytest.fixture
def looked() -> Looked:
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(200, 4, generator=generator)
    labels = torch.randint(4, (200,), generator=generator)
    return looked_at([(scores[:150], labels[:150]), (scores[150:], labels[150:])])


def test_most_wrong_are_the_surest_errors(looked: Looked) -> None:
    wrong = [index for index in range(200) if int(looked.shares[index].argmax()) != int(looked.labels[index])]
    expected = sorted(wrong, key=lambda index: -float(looked.shares[index].max()))
    assert looked.most_wrong(1000).tolist() == expected
    assert looked.most_wrong(5).tolist() == expected[:5]


def test_least_sure_are_those_between_two_classes(looked: Looked) -> None:
    def gap(index: int) -> float:
        first, second = sorted(looked.shares[index].tolist())[:-3:-1]
        return first - second

    assert looked.least_sure(7).tolist() == sorted(range(200), key=gap)[:7]


def test_calibration_error_by_its_definition(looked: Looked) -> None:
    error = 0.0
    for number in range(10):
        own = [
            index
            for index in range(200)
            if number / 10 <= float(looked.shares[index].max()) < (number + 1) / 10 + (number == 9)
        ]
        if own:
            right = sum(int(looked.shares[index].argmax()) == int(looked.labels[index]) for index in own) / len(own)
            error += len(own) / 200 * abs(right - sum(float(looked.shares[index].max()) for index in own) / len(own))
    found = calibration(looked)
    assert found.error == pytest.approx(error)
    assert sum(found.count) == 200


def test_what_is_always_right_and_sure_is_calibrated() -> None:
    found = calibration(Looked(torch.eye(3, dtype=torch.float64), torch.arange(3)))
    assert found.error == 0
    assert (found.sure, found.right, found.count) == ((1.0,), (1.0,), (3,))


def test_images_with_any_number_of_classes() -> None:
    """Distances to the threshold are shares of the way to 0 or 1."""
    shares = torch.tensor([[0.9, 0.1], [0.55, 0.3], [0.2, 0.99], [0.49, 0.2]], dtype=torch.float64)
    labels = torch.tensor([[1, 0], [0, 0], [1, 0], [1, 0]], dtype=torch.uint8)
    looked = LookedSeveral(shares, labels, torch.tensor([0.5, 0.8], dtype=torch.float64))
    assert looked.most_wrong(9).tolist() == [2, 1, 3]
    assert looked.most_wrong(1).tolist() == [2]
    assert looked.least_sure(2).tolist() == [3, 1]
    classes = ("ant", "bee")
    assert looked.said(2, classes, unsure=False) == {"label": "ant", "predicted": "bee", "share": 0.99, "which": "bee"}
    assert looked.said(1, classes, unsure=True) == {
        "label": "no class",
        "predicted": "ant",
        "share": 0.55,
        "which": "ant",
    }
    found = looked.calibration()
    assert sum(found.count) == 8
    assert dict(zip(found.count, found.right, strict=True))[1] in (0.0, 1.0)
    assert found.right[-1] == 0.5  # 0.9 has its class, 0.99 has not
