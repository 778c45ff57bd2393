"""Speed-up, efficiency and the picture, from given timings."""

from pathlib import Path

import pytest

from simroot.measure import Latency, against_first, plot_latencies


def timed(model: str, median: float, macs: int | None = None, engine: str = "eager", batch: int = 1) -> Latency:
    return Latency(model, engine, 1, batch, median, (0.9 * median, 1.2 * median), 10, macs=macs)


def test_against_the_first_in_the_same_engine() -> None:
    given = [timed("a", 2.0, 100), timed("b", 1.0, 40), timed("a", 8.0, 100, "compile"), timed("b", 2.0, 40, "compile")]
    first, second, third, fourth = against_first(given)
    for same in (first, third):
        assert (same.speedup, same.mac_ratio, same.efficiency) == (1, 1, 1)
    assert (second.speedup, second.mac_ratio) == (2, 2.5)
    assert second.efficiency == pytest.approx(0.8)
    assert fourth.speedup == 4
    assert fourth.efficiency == pytest.approx(1.6)
    assert [each.latency for each in (first, second, third, fourth)] == given
    assert second.as_dict().items() >= {"model": "b", "median": 1.0, "speedup": 2.0, "mac_ratio": 2.5}.items()


def test_the_first_of_one_name_counts() -> None:
    first, second, third = against_first([timed("a", 2.0), timed("a", 1.0), timed("b", 4.0)])
    assert (first.speedup, second.speedup, third.speedup) == (1, 2, 0.5)


def test_what_cannot_be_compared() -> None:
    given = [timed("a", 2.0, 100), timed("file", 1.0), timed("b", 1.0, 50, "openvino"), timed("b", 1.0, 50, batch=2)]
    _, file, elsewhere, other_batch = against_first(given)
    assert (file.speedup, file.mac_ratio, file.efficiency) == (2, None, None)
    for each in (elsewhere, other_batch):
        assert (each.speedup, each.mac_ratio, each.efficiency) == (None, None, None)


def test_plot(tmp_path: Path) -> None:
    latencies = [timed(m, 1.0, engine=e, batch=b) for b in (1, 8) for e in ("eager", "openvino") for m in ("a", "b")]
    path = tmp_path / "times.png"
    plot_latencies(latencies[:-1], path, "Times")  # one is missing
    assert path.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [path]


def test_the_legend_is_inside_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    names = ["runs/simnet2_small-hand-digits-train-1/model.onnx", "b", "runs/simnet2_small-hand-digits-train-1", "d"]
    plot_latencies([Latency(name, "eager", 1, 1, 1e-3, (1e-3, 1e-3), 9) for name in names], tmp_path / "a.png")
    (figure,) = drawn
    figure.canvas.draw()
    legend, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert whole.x0 <= legend.x0
    assert legend.x1 <= whole.x1
    assert legend.y0 >= 0
