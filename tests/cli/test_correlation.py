"""Correlation between two layers on the command line."""

from pathlib import Path

import pytest

from cli.result import Simroot


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command draws where it runs."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_untrained_network(simroot: Simroot) -> None:
    words = ("nin_root8", "--layers", "conv2c", "conv3a", "--data", "digits", "--images", 60)
    found = simroot("correlation", *words, "--json").json
    assert (found["layers"], found["groups"], found["channels"]) == (["conv2c", "conv3a"], 4, [192, 192])
    assert found["samples"] == 60 * 4 * 4
    assert found["uniform_share"] == 0.25
    share = found["share_in_blocks"]
    assert found["block_diagonality"] == pytest.approx((share - 0.25) / 0.75)
    assert found["network"] == "nin_root8 (untrained) on digits, validation images"
    assert Path(found["plot"]).stat().st_size > 0
    assert found["plot"] == "correlation-conv2c-conv3a.png"
    plain = simroot("correlation", *words, "--plain", "--arrange", "--groups", 8, "--json").json
    assert (plain["whitened"], plain["arranged"], plain["groups"]) == (False, True, 8)


def test_run(simroot: Simroot, trained: Path, tmp_path: Path) -> None:
    facts = simroot("cost", trained, "--json").json
    names = [layer["name"] for layer in facts["layers"] if layer["macs"]][:2]
    out = simroot("correlation", trained, "--layers", *names, "--out", tmp_path / "plot.png").out
    assert "on digits, validation images" in out
    assert "360, " in out
    assert "-: one group, so that everything is in it" in out
    assert (tmp_path / "plot.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nin", "--layers", "conv2c", "conv9", "--data", "digits"), "has no layer 'conv9'; its layers are conv1a"),
        (("nin", "--layers", "conv2c"), "expected 2 arguments"),
        (("nin", "--layers", "conv2c", "conv3a", "--groups", "5", "--data", "digits"), "5 groups do not divide"),
        (("nothing", "--layers", "a", "b"), "holds no run"),
    ],
)
def test_mistakes_are_one_line(simroot: Simroot, words: tuple[str, ...], message: str) -> None:
    result = simroot("correlation", *words, "--images", "4") if "--groups" in words else simroot("correlation", *words)
    assert result.code == 2
    assert message in result.err.splitlines()[-1]


def test_image_size_goes_with_a_name(simroot: Simroot, trained: Path) -> None:
    result = simroot("correlation", trained, "--layers", "a", "b", "--image-size", "8")
    assert (result.code, "go with the name of a network" in result.err) == (2, True)
