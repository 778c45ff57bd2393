"""Trained networks as C on small devices and on this machine: accuracy, memory, instructions, bits and milliseconds.

    python benchmarks/device_networks.py "5K=runs/simnet_mixed-5k" "ResNet-8=runs/mlperf_resnet8"

Each NAME=RUN is exported as C in float32 and in int8, as ONNX, as a web page and, where litert-torch is installed, for
LiteRT, and checked on all of the run's validation images. Where RUN-int8, of ``simroot quantise``, lies beside the run,
C in int8 is its. The C text in int8 is compiled by gcc and clang for this machine, for WebAssembly, and for small
processors; every bit of the scores must be that of the reference in NumPy, which sees fewer images of large networks.
Instructions are the emulator's.

Rows that are in the JSON file are kept while the weights are the same. Milliseconds come last: all engines of a network
in turns, one image and one thread, on one core; they are the processor's, which others' programs make little longer.
``--times`` measures them anew.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.data.splits import evenly
from simroot.engines import load_file
from simroot.engines.host import HostProgram, channels_last
from simroot.errors import SimrootError
from simroot.export import Options, RefusedError, to_c, to_onnx, to_tflite, to_wasm
from simroot.export.c.verify import TARGETS
from simroot.files import write_text
from simroot.training import Run, export_options, load_run
from simroot.training.environment import versions

Row = dict[str, Any]
_CALIBRATION = 512
_SMALL, _REFERENCE = 900_000, 1000  # larger networks are held against NumPy, which is slow, on fewer images
_COUNTED = ("cortex-m4", "cortex-m55")
_ROUNDS, _SECONDS, _PAUSE = 15, 0.05, 0.05
_CODE = 48 * 1024  # what code and test images may take beside the constants
_HOSTS = {"gcc": ("gcc", ()), "gcc, C alone": ("gcc", ("-DSR_PORTABLE",)), "clang": ("clang", ())}
_ENGINES = {
    "C float32": ("c", "c"),
    "C int8": ("c-int8", "c"),
    "ONNX Runtime float32": ("float32.onnx", "onnxruntime"),
    "ONNX Runtime int8": ("int8.onnx", "onnxruntime"),
    "LiteRT int8": ("int8.tflite", "litert"),
}

# Of docs/tables.py: of each column where in a row its number is, and how it is written.
TABLES = {
    "accuracy": {
        **{name: (name.split()[-1], "{:,}") for name in ("parameters", "epochs", "images to train")},
        **{name: (f"accuracy/{name}", "{:.2%}") for name in ("float32", "C int8")},
        **{f"{name} int8": (f"accuracy/{name} int8", "{:.2%}") for name in ("ONNX Runtime", "LiteRT")},
    },
    "memory": {
        **{name: (f"int8/{name}", "{:,}") for name in ("constants", "arena", "stack")},
        "code": ("int8/code/cortex-m4", "{:,}"),
        **{
            f"{kind}, {processor}": (f"{kind}/instructions/{processor}", "{:,}")
            for kind in ("int8", "float32")
            for processor in ("cortex-m4", "cortex-m55")
        },
    },
    "times": {
        name: (f"milliseconds/{name}", "{:.3f}")
        for name in ("C float32", "ONNX Runtime float32", "C int8", "ONNX Runtime int8", "LiteRT int8")
    },
    "bits": {
        name: (f"bits/{name}", "{0[0]:,}: {0[1]}")
        for name in ("NumPy", "gcc", "gcc, C alone", "clang", "wasm", *(f"cortex-m{n}" for n in (4, 33, 55)), "riscv32")
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Export what is missing, measure the times, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--times", action="store_true", help="measure all milliseconds anew")
    parser.add_argument("--work", type=Path, default=Path("build/device_networks"), help="folder for the exports")
    parser.add_argument("--out", type=Path, default=Path("results/device_networks.json"))
    arguments = parser.parse_args(argv)
    rows: list[Row] = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    for name, _, path in (word.partition("=") for word in arguments.networks):
        run, folder = load_run(Path(path)), arguments.work / name.replace(" ", "-")
        weights = hashlib.sha256((run.path / "model.safetensors").read_bytes()).hexdigest()
        place = next((k for k, row in enumerate(rows) if row["network"] == name), len(rows))
        if place == len(rows) or rows[place]["weights"] != weights:
            shutil.rmtree(folder, ignore_errors=True)
            rows[place:] = [{"network": name, **_row(run, folder), "weights": weights}, *rows[place + 1 :]]
            _write(arguments.out, rows)
        if folder.exists() and (arguments.times or "milliseconds" not in rows[place]):
            rows[place]["milliseconds"] = _times(_calls(folder, load_run(Path(path))))
            _write(arguments.out, rows)
    return 0


def _write(path: Path, rows: Sequence[Row]) -> None:
    found = {"command": "python benchmarks/device_networks.py NAME=RUN ...", "tables": TABLES}
    found |= {"versions": versions(), "rows": rows}
    write_text(path, json.dumps(found, indent=1) + "\n")


def _row(run: Run, folder: Path) -> Row:
    """All but the times."""
    folder.mkdir(parents=True)
    beside = run.path.with_name(f"{run.path.name}-int8")
    whole = load_run(beside) if beside.exists() else run
    summary = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))
    size = run.preparation.shape
    real, small = export_options(run), export_options(run, calibration=_CALIBRATION)
    integers = export_options(whole, calibration=_CALIBRATION) if whole is not run else small
    row: Row = {key: summary[key] for key in ("model", "overrides", "parameters", "macs", "epochs", "seed")}
    row |= {"data": summary["data"]["name"], "train": summary["data"]["train"], "trained_in_integers": whole is not run}
    count = len(real["images"]) if summary["macs"] < _SMALL else _REFERENCE
    exact = to_c(
        run.model, folder / "c", size, verify=[one for one in _COUNTED if _fits(one, run, 4)], **_few(real, _REFERENCE)
    )
    tried = [one for one in TARGETS if _fits(one, run, 1)]
    c = to_c(whole.model, folder / "c-int8", size, verify=tried, **_few(integers, count))
    row["float32"], row["int8"] = _memory(exact), _memory(c)
    images, labels = np.asarray(integers["images"]), np.asarray(integers["labels"])
    last = channels_last(images)
    expected = _program(folder, last, "gcc").scores(last)
    row["bits"] = {"NumPy": [count, 0]} | {one.target: [one.images, 0] for one in c.verified}
    for name, (compiler, flags) in _HOSTS.items():
        row["bits"][name] = _differences(_program(folder, last, compiler, flags).scores, last, expected)
    to_wasm(whole.model, folder / "model.wasm", size, **_few(integers, count))
    row["bits"]["wasm"] = _differences(load_file(folder / "model.wasm").run, images, expected)
    onnx = to_onnx(run.model, folder / "float32.onnx", size, **real)
    right = float((expected.argmax(1) == labels).mean())
    row |= {"images": onnx.images, "accuracy": {"float32": onnx.network_accuracy, "C int8": right}}
    others: dict[str, Callable[..., Any]] = {"ONNX Runtime int8": to_onnx}
    if importlib.util.find_spec("litert_torch"):
        others["LiteRT int8"] = to_tflite
    for name, write in others.items():
        try:
            row["accuracy"][name] = write(run.model, folder / _ENGINES[name][0], size, **small).accuracy
        except SimrootError as error:
            row.setdefault("refused", {})[name] = str(error).partition(";")[0]
            if isinstance(error, RefusedError):
                row["accuracy"][name] = error.exported.accuracy
    print(json.dumps(row), file=sys.stderr)
    return row


def _few(options: Options, count: int) -> Options:
    """The same, checked on fewer images."""
    chosen = evenly(len(options["images"]), count)
    return {**options, "images": options["images"][chosen], "labels": options["labels"][chosen]}


def _fits(target: str, run: Run, width: int) -> bool:
    """Whether a processor's code memory has room for the network's numbers of so many bytes."""
    parameters = sum(one.numel() for one in run.model.parameters())
    return width * parameters + _CODE < TARGETS[target].memory["codesize"]


def _memory(exported: Any) -> Row:
    """Of an export as C: bytes, and instructions of an image."""
    memory = exported.memory
    tried = {one.target: one for one in exported.verified if not one.skipped}
    return {
        "constants": memory.flash,
        "code": {name: one.code for name, one in tried.items()},
        "arena": memory.arena,
        "stack": memory.stack,
        "instructions": {name: one.instructions for name, one in tried.items()},
    }


def _program(folder: Path, images: NDArray[Any], compiler: str, flags: Sequence[str] = ()) -> HostProgram:
    source = _source(folder / "c-int8")
    classes = len(json.loads(source.with_name(f"{source.name}.json").read_text(encoding="utf-8"))["classes"])
    found = shutil.which(compiler)
    return HostProgram(source, source.stem, images.shape[1:], classes, np.uint8, with_compiler=found, flags=flags)


def _source(folder: Path) -> Path:
    return next(path for path in folder.glob("*.c") if not path.stem.endswith("_test"))


def _differences(run: Callable[..., Any], images: NDArray[Any], expected: NDArray[np.float32]) -> list[int]:
    """How many images were compared, and how many have scores of other bits."""
    found = np.asarray(run(images))
    return [len(images), int((found.view(np.uint32) != expected.view(np.uint32)).any(1).sum())]


def _calls(folder: Path, run: Run) -> dict[str, Callable[[], Any]]:
    """What classifies an image, of each engine that there is a file for."""
    image = np.asarray(export_options(run, images=1)["images"])
    calls = {}
    for name, (file, engine) in _ENGINES.items():
        path = folder / file
        if engine == "c":
            path = _source(path)
        if path.exists():
            calls[name] = load_file(path, threads=1).bind(image)
    return calls


def _times(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Milliseconds of an image: the least of the turns' means, all engines in turns."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            time.sleep(_PAUSE)
            call()
            count, start = 0, time.process_time()
            while time.process_time() - start < _SECONDS:
                call()
                count += 1
            found[name].append(1e3 * (time.process_time() - start) / count)
    os.sched_setaffinity(0, cores)
    return {name: round(min(values), 4) for name, values in found.items()}


if __name__ == "__main__":
    sys.exit(main())
