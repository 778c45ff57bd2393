"""The comparison of pre-trained and random starts, on digits."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from simroot.data import load
from simroot.pretraining import pretrain
from simroot.reproduce.simnets_pretraining import RANDOM, comparison, summary
from simroot.trials.experiment import conduct
from simroot.trials.networks import Network
from simroot.trials.runs import PRETRAINED

PLAN = comparison([Network("small", "simnet2_small", {"channels": [6, 8]})], (150, 2000, None))


@pytest.mark.slow
def test_trains_both_starts_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source: dict[str, Any] = {"name_or_path": "digits", "limit": 300}
    data = load(**source)
    monkeypatch.setattr("simroot.trials.runs.pretrain", partial(pretrain, patches=500))
    where: dict[str, Any] = {"runs": tmp_path / "runs", "results": tmp_path / "results"}

    def run() -> Any:
        path = conduct("starts", PLAN, data, **where, source=source, epochs=2, progress=False)
        return json.loads(path.read_text())

    with caplog.at_level(logging.WARNING):
        result = run()
    assert "2,000 labels, seed 0 is left out: it asks for 2,000 labelled images; digits has 300" in caplog.text
    for name in ("trials.runs.pretrain", "training.train"):
        monkeypatch.setattr(f"simroot.{name}", lambda *_, **__: pytest.fail("made again what is there"))
    assert run() == result
    assert (tmp_path / "results" / "starts.png").stat().st_size > 1000
    table = (tmp_path / "results" / "starts.md").read_text()
    assert "| small | 150 | 1 | pre-trained |" in table
    assert "| small | 300 | 1 | pre-trained |" in table
    rows = result["rows"]
    assert [(row["start"], row.get("labels")) for row in rows] == [
        (RANDOM, 150),
        (PRETRAINED, 150),
        (RANDOM, None),
        (PRETRAINED, None),
    ]
    for row in rows:
        assert row["accuracy"] == pytest.approx(row["validation_accuracy_by_epoch"][1])
        assert row.keys() >= {"model", "seed", "epochs", "parameters", "macs", "flops", "seconds"}
        assert (row.get("pretraining_seconds", 0) > 0) == (row["start"] == PRETRAINED)
        assert row["recipe"] == rows[0]["recipe"]
    few, many = result["summary"]
    for found, (random, pretrained) in ((few, rows[:2]), (many, rows[2:])):
        for row, means in ((random, found[RANDOM]), (pretrained, found[PRETRAINED])):
            curve = row["validation_accuracy_by_epoch"]
            assert means == pytest.approx({"1": curve[0], "2": curve[1]})
    assert {row["command"] for row in rows[:2]} == {"simroot reproduce starts --data digits --limit 300 --epochs 2"}
    assert rows[3]["command"].startswith(
        "simroot train --data digits --limit 300 --model simnet2_small --pretrain --set"
    )
    configs = [yaml.safe_load(path.read_text()) for path in sorted((tmp_path / "runs").glob("*/config.yaml"))]
    assert sorted(config["data"]["train"] for config in configs) == [150, 150, 300, 300]


def test_gains_are_means_over_the_seeds_of_both() -> None:
    def row(start: str, seed: int, accuracy: float) -> dict[str, Any]:
        return {"network": "n", "labels": 9, "start": start, "seed": seed, "accuracies": {"1": accuracy}}

    rows = [row(RANDOM, 0, 0.4), row(RANDOM, 1, 0.5), row(PRETRAINED, 0, 0.5), row(PRETRAINED, 1, 0.7)]
    (found,) = summary([*rows, row(RANDOM, 2, 0.9)])
    assert found["seeds"] == [0, 1]
    assert found["gain"]["1"] == pytest.approx(15)
    assert found[PRETRAINED]["1"] == pytest.approx(0.6)
    assert summary(rows[:1]) == []
