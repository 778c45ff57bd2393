"""The comparison of pre-trained and random starts, on digits."""

import json
from pathlib import Path
from typing import Any

import pytest

from simroot.reproduce.simnets_pretraining import PRETRAINED, RANDOM, Network, conduct, summary

NETWORK = Network("small", "simnet2_small", {"channels": [6, 8]})


@pytest.mark.slow
def test_trains_both_starts_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> dict[str, Any]:
        return conduct(
            {"name_or_path": "digits"},
            runs=tmp_path / "runs",
            out=tmp_path / "results" / "out.json",
            networks=[NETWORK],
            labels=(150,),
            seeds=(0,),
            epochs=(1, 2),
            options={"patches": 500},
        )

    result = run()
    for name in ("simroot.reproduce.simnets_pretraining.pretrain", "simroot.trials.runs.train"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("made again what is there"))
    assert run() == result
    assert result == json.loads((tmp_path / "results" / "out.json").read_text())
    assert (tmp_path / "results" / "out.png").stat().st_size > 1000
    assert "| small | 150 | 1 | pre-trained |" in (tmp_path / "results" / "out.md").read_text()
    assert [(row["start"], row["labels"]) for row in result["rows"]] == [(RANDOM, 150), (PRETRAINED, 150)]
    for row in result["rows"]:
        curve = row["validation_accuracy_by_epoch"]
        assert row["accuracies"] == {"1": curve[0], "2": curve[1]}
        assert row["accuracy"] == pytest.approx(curve[1])
        assert row.keys() >= {"model", "seed", "epochs", "parameters", "macs", "flops", "seconds"}
        assert row["command"].startswith("python benchmarks/pretraining.py --data digits --networks simnet2_small")
        assert row["command"].endswith("--labels 150 --seeds 0 --patches 500 --epochs 1 2")
        assert (row["pretraining_seconds"] > 0) == (row["start"] == PRETRAINED)
    random, pretrained = (row["recipe"] for row in result["rows"][:2])
    assert random == pretrained


def test_gains_are_means_over_the_seeds_of_both() -> None:
    def row(start: str, seed: int, accuracy: float) -> dict[str, Any]:
        return {"network": "n", "labels": 9, "start": start, "seed": seed, "accuracies": {"1": accuracy}}

    rows = [row(RANDOM, 0, 0.4), row(RANDOM, 1, 0.5), row(PRETRAINED, 0, 0.5), row(PRETRAINED, 1, 0.7)]
    (found,) = summary([*rows, row(RANDOM, 2, 0.9)])
    assert found["seeds"] == [0, 1]
    assert found["gain"]["1"] == pytest.approx(15)
    assert found[PRETRAINED]["1"] == pytest.approx(0.6)
    assert summary(rows[:1]) == []
