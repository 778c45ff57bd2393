"""Times that are predicted: planted coefficients are found again, and files that are damaged are not believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from simroot.errors import DataError
from simroot.measure import prediction
from simroot.measure.prediction import CostModel, fit, read, save, work

PLANTED = {"conv kxk calls": 2e-3, "conv kxk MACs": 3e-8, "elementwise outputs": 1e-6}


def networks() -> list[dict[str, float]]:
    sizes = [(1, 1e5, 1e3), (3, 4e5, 9e3), (7, 1e6, 2e3), (2, 8e6, 5e4), (12, 3e5, 7e4)]
    return [
        dict(zip(PLANTED, size, strict=True)) | {"depthwise calls": number % 2} for number, size in enumerate(sizes)
    ]


def test_planted_times_are_found_again() -> None:
    works = networks()
    times = [CostModel(PLANTED).predict(each) for each in works]
    assert times[0] == pytest.approx(2e-3 + 3e-3 + 1e-3)
    found = fit(works, times)
    assert found.milliseconds == pytest.approx(PLANTED, rel=1e-6)  # and nothing for what costs nothing


def test_no_time_is_below_zero() -> None:
    found = fit([{"a": 1.0}, {"a": 1.0, "b": 1.0}], [1.0, 0.5])
    assert set(found.milliseconds) == {"a"}


def test_work_counts_calls_macs_and_outputs_by_kind() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 6, 1),
        nn.Conv2d(6, 6, 1, groups=2), nn.Flatten(), nn.Linear(6 * 16, 5),
    )  # fmt: skip
    assert dict(work(network, (3, 4, 4))) == {
        "conv kxk calls": 1, "conv kxk MACs": 27 * 8 * 16, "conv kxk outputs": 8 * 16,
        "elementwise calls": 1, "elementwise FLOPs": 8 * 16, "elementwise outputs": 8 * 16,
        "depthwise calls": 1, "depthwise MACs": 9 * 8 * 16, "depthwise outputs": 8 * 16,
        "conv 1x1 calls": 1, "conv 1x1 MACs": 8 * 6 * 16, "conv 1x1 outputs": 6 * 16,
        "grouped, odd channels calls": 1, "grouped, odd channels MACs": 18 * 16,
        "grouped, odd channels outputs": 6 * 16,
        "dense calls": 1, "dense MACs": 480, "dense FLOPs": 965,
    }  # fmt: skip


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    save(tmp_path / "times.json", CostModel(PLANTED))
    assert read(tmp_path / "times.json") == CostModel(PLANTED)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}", '{"milliseconds": 1}', '{"milliseconds": {}}', '{"milliseconds": {"a": -1}}',
     '{"milliseconds": {"a": NaN}}', '{"milliseconds": {"a": 1e999}}', '{"milliseconds": {"a": null}}', "[" * 10**5],
)  # fmt: skip
def test_damaged_files_are_not_believed(tmp_path: Path, text: str) -> None:
    (tmp_path / "times.json").write_text(text)
    with pytest.raises(DataError, match="measured again"):
        prediction.read(tmp_path / "times.json")
