"""The measured tables of the pages, made from results/: ``python docs/tables.py`` writes them anew.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``. NAME is one of ``TABLES``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"(?<=<!-- table )(\S+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
_TABLE = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)


def filled(page: str) -> str:
    """A page with its tables as the results have them.

    Raises:
        KeyError: for a table of a name that is not known.
    """
    return _BLOCK.sub(lambda block: f"{block[1]}{block[2]}{TABLES[block[1]]()}", page)


def result(name: str) -> Any:
    """What a file of results holds."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table; all columns but the first ones hold numbers. ValueError if a row has other than a cell for each."""
    rules = ["---"] * left + ["---:"] * (len(columns) - left)
    cells = ([cell for cell, _ in zip(row, columns, strict=True)] for row in (columns, rules, *rows))
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def reported(name: str, number: int = 0) -> str:
    """A table of the report that ``simroot reproduce`` made of its JSON file."""
    return _TABLE.findall((RESULTS / f"{name}.md").read_text(encoding="utf-8"))[number]


def noted(name: str) -> str:
    """A table of figures that were written down when they were made."""
    table = result("notes")["tables"][name]
    left = max(1, table["align"].count("left"))
    return markdown(table["columns"], table["rows"], left)


def frontier_sizes() -> str:
    """The networks of 5,000 and 65,000 parameters, whose report has all of them."""
    head, rules, *rows = reported("compact-frontier").splitlines(keepends=True)
    return "".join([head, rules, *(row for row in rows if row.split(" | ")[1] in ("5,000", "65,000"))])


def rootified() -> str:
    """What is left of networks with filter groups."""
    rows = [
        [
            row["model"],
            f"{row['grouped']} of {row['spatial']}",
            f"{row['parameters'] / row['parameters_before']:.0%}",
            f"{row['macs'] / row['macs_before']:.0%}",
        ]
        for row in result("rootify_models")["rows"]
    ]
    return markdown(["network", "spatial convolutions grouped", "parameters left", "MACs left"], rows)


def root_times(family: str, engine: str) -> str:
    """Speed-up of root networks over their original, and over what their MACs promise."""
    runs = [row for row in result("root_speed")["rows"] if row["family"] == family and row["engine"] == engine]
    settings = sorted({(row["threads"], row["batch"]) for row in runs})
    rows = []
    for model in dict.fromkeys(row["model"] for row in runs if row["model"] != family):
        mine = {(row["threads"], row["batch"]): row for row in runs if row["model"] == model}
        efficiency = [row["efficiency"] for row in mine.values()]
        rows.append(
            [
                model,
                f"{1 / mine[settings[0]]['mac_ratio']:.0%}",
                *(f"{mine[setting]['speedup']:.2f}" for setting in settings),
                f"{min(efficiency):.2f} to {max(efficiency):.2f}",
            ]
        )
    times = [f"{threads} thread{'s' * (threads > 1)}, batch {batch}" for threads, batch in settings]
    return markdown(["network", "MACs", *times, "efficiency"], rows)


def grouped_layers() -> str:
    """Time of others over time of the kernel for convolutions in filter groups."""
    rows = []
    for layer in result("grouped_convolution")["layers"]:
        output = layer["ratios"]["output"]
        gradients = (layer["ratios"].get(name, {}).get("eager") for name in ("input_gradient", "filter_gradient"))
        rows.append(
            [
                layer["layer"],
                "{}, {}".format(*layer["channels_a_group"]),
                *(f"{output[engine]:.2f}" for engine in ("eager", "compile", "onnxruntime", "openvino")),
                *("-" if ratio is None else f"{ratio:.2f}" for ratio in gradients),
            ]
        )
    columns = ["layer", "channels, filters a group", "output: eager", "compiled", "ONNX Runtime", "OpenVINO"]
    return markdown([*columns, "gradient of x", "of the filters"], rows)


def grouped_networks() -> str:
    """Time of whole networks without the kernels over with them."""
    networks = result("grouped_convolution")["networks"]
    rows = [[each["network"], each["what"], str(each["batch"]), f"{each['ratio']:.2f}"] for each in networks]
    return markdown(["network", "what", "batch", "times as fast"], rows, left=2)


def similarities() -> str:
    """Time of others over time of the kernel for similarities, on one thread."""
    rows = [
        [
            " x ".join(map(str, row["size"])),
            f"{row['p']:g}",
            row["pass"],
            *("-" if other not in row["ratios"] else f"{row['ratios'][other]:.1f}" for other in _OTHERS),
        ]
        for row in result("similarity_speed")["rows"]
    ]
    return markdown(["rows, channels, templates", "p", "pass", *_OTHERS], rows, left=3)


_OTHERS = ("torch.compile", "chunked")


def mex() -> str:
    """Time of others over time of the kernel for MEX."""
    rows = [
        [row["operator"], row["measured"], row["against"], str(row["threads"]), f"{row['times_faster']:.2f}"]
        for row in result("mex_speed")["rows"]
    ]
    return markdown(["operator", "pass", "against", "threads", "times as fast"], rows, left=3)


def training_times() -> str:
    """A training step and an epoch of SimNets over Caffe's ConvNet's."""
    rows = [
        [row["network"], row["what"], str(row["threads"]), f"{row['ratio']:.2f}"]
        for row in result("training_speed")["rows"]
    ]
    return markdown(["network", "what", "threads", "time over convnet_caffe's"], rows, left=2)


def deployment() -> str:
    """Speed-up of exported SimNets over Caffe's ConvNet in the engines."""
    rows = [
        [row["model"], row["engine"], str(row["threads"]), str(row["batch"]), f"{row['speedup']:.2f}"]
        for row in result("deployment_speed")["rows"]
        if row["speedup"] != 1
    ]
    return markdown(["network", "engine", "threads", "batch", "times as fast as convnet_caffe"], rows, left=2)


def thirty_epochs() -> str:
    """Long trainings of the two layer networks."""
    rows = []
    for row in result("cifar10_30_epochs")["rows"]:
        kept = result(f"conditioning_{row['model']}")["accuracy"]["train"]
        accuracies = f"{100 * row['accuracy']:.1f}", f"{100 * kept:.1f}"
        rows.append([row["model"], *accuracies, f"{row['parameters']:,}", f"{row['macs']:,}"])
    columns = ["network", "validation accuracy (%)", "on training images (%)", "parameters", "MACs"]
    return markdown(columns, rows)


def short_trainings() -> str:
    """Accuracy over several seeds."""
    rows = [
        [row["model"], str(len(row["seeds"]) if isinstance(row["seeds"], list) else row["seeds"])]
        + [f"{100 * row[name]:.1f}" for name in ("mean", "std", "lowest")]
        for row in result("trainability")["summary"]
    ]
    return markdown(["network", "seeds", "mean (%)", "deviation", "lowest"], rows)


def defaults() -> str:
    """What is trained where nobody says, after and before the rules."""
    found = result("defaults")["rows"]
    order = list(dict.fromkeys(row["set"] for row in found))
    rows = []
    for row in sorted(found, key=lambda row: (order.index(row["set"]), row["arm"] == "after", row["seed"])):
        how = row["recipe"]
        rows.append(
            [
                row["set"],
                row["arm"] + (f", seed {row['seed']}" if row["seed"] else ""),
                " ".join([row["model"], *(f"{key}={value}" for key, value in row["overrides"].items())]),
                f"{row['epochs']}, {how['batch_size']}, {how['learning_rate']}",
                f"{row['parameters']:,}",
                f"{row['macs']:,}",
                f"{100 * row['accuracy']:.1f}",
                f"{100 * row['best_accuracy']:.1f}",
                f"{row['cpu_seconds']:.0f}",
            ]
        )
    columns = ["set", "", "network", "epochs, batch, rate", "parameters", "MACs", "last epoch (%)", "best (%)"]
    return markdown([*columns, "CPU seconds"], rows, left=4)


def defaults_trials() -> str:
    """Trials before the default recipe was fixed."""
    rows = []
    for row in result("defaults")["trials"]:
        changes = row.get("changes") or {name: row["recipe"][name] for name in ("batch_size", "learning_rate")}
        text = ", ".join(f"{name} {value:g}" for name, value in changes.items())
        stopped = f"; {row['stopped'].partition(':')[0]}" if "stopped" in row else ""
        channels = f"{row['overrides']['channels']:g}"
        accuracies = [f"{100 * row[name]:.1f}" for name in ("accuracy", "best_accuracy")]
        rows.append([row["set"], channels, text + stopped, f"{row['macs']:,}", *accuracies])
    return markdown(["images", "channels", "recipe", "MACs", "last epoch (%)", "best (%)"], rows, left=3)


def accelerated() -> str:
    """Training steps of accelerated networks against PyTorch's own."""
    found = result("accelerated_step")
    columns = {
        "network": "network",
        "threads": "threads",
        "PyTorch (ms)": "pytorch_ms",
        "accelerated (ms)": "simroot_ms",
        "times as fast": "ratio",
        "PyTorch keeps (MB)": "pytorch_kept_mb",
        "accelerated (MB)": "simroot_kept_mb",
        "limit (ms)": "limit_ms",
        "times the limit": "times_the_limit",
        "evaluation, times as fast": "evaluation_ratio",
    }
    return markdown(tuple(columns), [[str(row[name]) for name in columns.values()] for row in found["rows"]])


def narrow_convolutions() -> str:
    """Times as fast as PyTorch's convolutions, layer by layer."""
    rows = result("narrow_convolution")["rows"]
    return markdown(tuple(rows[0]), [[str(value) for value in row.values()] for row in rows], left=2)


def busy() -> str:
    """Time of a training step beside other programs."""
    rows = result("busy_machine")["rows"]
    return markdown(["way", "ms a step"], [[row["way"], f"{row['milliseconds_a_step']:,.0f}"] for row in rows])


def streaming() -> str:
    """Memory and time of a training from shards, and with the images in memory."""
    rows = [
        [
            f"{row['images']:,}",
            row["way"],
            f"{row['encoded_mib']:,.0f}",
            f"{row['peak_mib'] - row['before_mib']:,.0f}",
            f"{row['processor_seconds']:.1f}",
        ]
        for row in result("streaming")["rows"]
    ]
    columns = ["images", "form", "encoded (MiB)", "memory beyond the program (MiB)", "processor seconds an epoch"]
    return markdown(columns, rows, left=2)


def side_by_side() -> str:
    """simroot, Ultralytics and timm with the same seconds on the same photos."""
    rows = [
        [
            row["set"],
            f"{row['tool']} {row['version']}",
            row["network"].split()[0],
            str(row["size"]),
            f"{100 * row['accuracy']:.1f}",
            f"{row['parameters']:,}",
            f"{row['bytes'] / 1000:,.0f}",
            f"{row['milliseconds']:.2f}",
            str(row["epochs"]),
            f"{row['seconds']:.0f}",
        ]
        for row in result("side_by_side")["rows"]
    ]
    figures = ["parameters", "ONNX (kB)", "ms an image", "epochs", "seconds"]
    columns = ["photos", "tool", "network", "pixels", "accuracy (%)", *figures]
    return markdown(columns, rows, left=3)


def pretrained_start() -> str:
    """Accuracies on hand signs from weights that come with simroot and from random ones, of each seed."""
    rows = result("pretrained_start")["rows"]
    starts = list(dict.fromkeys(row["start"] for row in rows))
    found = [
        [str(photos)]
        + [
            ", ".join(
                f"{100 * row['accuracy']:.1f}" for row in rows if (row["photos"], row["start"]) == (photos, start)
            )
            for start in starts
        ]
        for photos in dict.fromkeys(row["photos"] for row in rows)
    ]
    return markdown(["photos", *(f"from {start or 'random weights'} (%)" for start in starts)], found)


def device_forms() -> str:
    """Instructions of the C export on small processors, with their own form of the dot products and without."""
    rows = [
        [
            row["network"],
            row["processor"],
            f"{row['portable']['instructions'] / 1e6:.2f}",
            f"{row['form']['instructions'] / 1e6:.2f}",
            f"{row['form']['per_mac']:.2f}",
            f"{row['form']['stack']:,}",
            f"{row['form']['code']:,}",
        ]
        for row in result("device_export")["forms"]
    ]
    columns = ["network", "processor", "C alone (M)", "its form (M)", "for each MAC", "stack (bytes)", "code (bytes)"]
    return markdown(columns, rows, left=2)


def device_arenas() -> str:
    """Bytes of the arena of the C export, by rows and one layer at a time."""
    rows = [
        [row["network"], *(f"{row[kind][way]:,}" for kind in ("int8", "float32") for way in ("apart", "by_rows"))]
        for row in result("device_export")["arenas"]
    ]
    return markdown(["network", "int8, apart", "int8, by rows", "float32, apart", "float32, by rows"], rows)


def by_column(file: str, name: str) -> str:
    """A table of results that say of each column where in a row its number is, and how it is written."""
    found = result(file)
    rows, columns = found["rows"], found["tables"][name]
    texts = [[row["network"], *(_found(row, *column) for column in columns.values())] for row in rows]
    return markdown(["network", *columns], texts)


def _found(row: Any, path: str, form: str) -> str:
    for key in path.split("/"):
        row = row.get(key, {})
    return "-" if row == {} else form.format(row)


def guide(page: str) -> str:
    """The lines of a guide, run from a fresh clone."""
    rows = [row for row in result("guides")["rows"] if row["page"] == page]
    texts = [[f"`{row['line']}`", f"{row['cpu_seconds']:.0f}"] for row in rows]
    return markdown(["line", "seconds"], [*texts, ["in all", f"{sum(row['cpu_seconds'] for row in rows):.0f}"]])


# Experiments whose first table stands in a page.
SIMNETS = ("simnets-figure-2b", "simnets-table-1", "simnets-table-2", "simnets-compact")
OTHERS = ("deep-roots-figure-5", "frontier-converged", "distilled", "long-ablation", "falling-groups", "learning-rates")

TABLES: dict[str, Callable[[], str]] = {
    **{name: partial(reported, name) for name in (*SIMNETS, *OTHERS)},
    "accelerated": accelerated,
    "narrow-convolutions": narrow_convolutions,
    "frontier": partial(reported, "compact-frontier", 1),
    "frontier-sizes": frontier_sizes,
    "learning-rates-4-epochs": partial(reported, "4-epochs/learning-rates"),
    "pretraining": partial(reported, "simnets-pretraining"),
    "rootified": rootified,
    "nin-times": partial(root_times, "nin", "openvino"),
    "resnet50-times": partial(root_times, "resnet50", "onnxruntime"),
    "grouped-layers": grouped_layers,
    "grouped-networks": grouped_networks,
    "similarities": similarities,
    "mex": mex,
    "training-times": training_times,
    "busy-machine": busy,
    "streaming": streaming,
    "deployment": deployment,
    "thirty-epochs": thirty_epochs,
    "short-trainings": short_trainings,
    "defaults": defaults,
    "defaults-trials": defaults_trials,
    "side-by-side": side_by_side,
    "pretrained-start": pretrained_start,
    "device-forms": device_forms,
    "device-arenas": device_arenas,
    **{f"device-{name}": partial(by_column, "device_networks", name) for name in result("device_networks")["tables"]},
    **{f"web-{name}": partial(by_column, "web_times", name) for name in result("web_times")["tables"]},
    **{f"guides-{page}": partial(guide, page) for page in ("microcontroller", "web")},
    **{f"noted-{name}": partial(noted, name) for name in result("notes")["tables"]},
}

if __name__ == "__main__":
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            path.write_text(new, encoding="utf-8")
