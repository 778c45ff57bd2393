"""What timings say beside each other: speed-up, efficiency, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simroot.files import write_atomic
from simroot.measure.timing import Latency


@dataclass(frozen=True)
class Comparison:
    """One timing against that of the first network in the same engine, with the same threads and batch.

    Attributes:
        latency: the timing.
        speedup: seconds of the first network / seconds of this one.
        mac_ratio: multiply-accumulates of the first network / those of this one; None if they are not known.
    """

    latency: Latency
    speedup: float | None
    mac_ratio: float | None

    @property
    def efficiency(self) -> float | None:
        """speedup / mac_ratio: the share of the saved operations that is saved time."""
        if self.speedup is None or self.mac_ratio is None:
            return None
        return self.speedup / self.mac_ratio

    def as_dict(self) -> dict[str, Any]:
        """All of the above as plain values."""
        ratios = {"speedup": self.speedup, "mac_ratio": self.mac_ratio, "efficiency": self.efficiency}
        return self.latency.as_dict() | ratios


def against_first(latencies: Sequence[Latency]) -> list[Comparison]:
    """Compare every timing with that of the first network named, where it was timed in the same way."""
    first: dict[tuple[str, int, int], Latency] = {}
    for each in latencies:
        if each.model == latencies[0].model:
            first.setdefault(_key(each), each)
    return [_compare(each, first.get(_key(each))) for each in latencies]


def plot_latencies(latencies: Sequence[Latency], path: Path, title: str = "") -> None:
    """Write a PNG: milliseconds an image by engine, a bar for each network, a panel for each threads and batch.

    The whiskers are the quartiles.
    """
    # Loaded here because it is slow to load; a Figure of its own needs neither pyplot nor a display.
    from matplotlib.figure import Figure

    models, engines = _distinct([each.model for each in latencies]), _distinct([each.engine for each in latencies])
    threads, batches = _distinct([each.threads for each in latencies]), _distinct([each.batch for each in latencies])
    width = max(4.5, 1.5 + 0.28 * len(models) * len(engines)) * len(batches)
    entry = 0.8 + 0.1 * max(map(len, models))  # inches of a name in the legend
    width, columns = max(width, entry), max(1, min(len(models), int(width / entry)))
    height = 0.5 + 3.2 * len(threads) + 0.25 * -(-len(models) // columns)
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    panels = figure.subplots(len(threads), len(batches), squeeze=False)
    for row, count in zip(panels, threads, strict=True):
        for axes, batch in zip(row, batches, strict=True):
            shown = [each for each in latencies if (each.threads, each.batch) == (count, batch)]
            _draw(axes, shown, models, engines)
            axes.set_title(f"{count} {'thread' if count == 1 else 'threads'}, batch {batch}", fontsize=10)
            axes.set_ylabel("milliseconds an image")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    if title:
        figure.suptitle(title)
    write_atomic(path, lambda file: figure.savefig(file, format="png"))


def _draw(axes: Any, shown: Sequence[Latency], models: Sequence[str], engines: Sequence[str]) -> None:
    width = 0.8 / len(models)
    for index, model in enumerate(models):
        mine = [each for each in shown if each.model == model]
        heights = [each.milliseconds_per_image for each in mine]
        scale = [1e3 / each.batch for each in mine]
        whiskers = [
            [(each.median - each.quartiles[0]) * unit for each, unit in zip(mine, scale, strict=True)],
            [(each.quartiles[1] - each.median) * unit for each, unit in zip(mine, scale, strict=True)],
        ]
        places = [engines.index(each.engine) + (index - (len(models) - 1) / 2) * width for each in mine]
        axes.bar(places, heights, width, yerr=whiskers, label=model, color=f"C{index % 10}", capsize=2)
    axes.set_xticks(range(len(engines)), engines)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)


def _compare(latency: Latency, first: Latency | None) -> Comparison:
    if first is None:
        return Comparison(latency, None, None)
    ratio = first.macs / latency.macs if first.macs and latency.macs else None
    return Comparison(latency, first.median / latency.median, ratio)


def _key(latency: Latency) -> tuple[str, int, int]:
    return latency.engine, latency.threads, latency.batch


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
