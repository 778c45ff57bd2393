"""simroot, Ultralytics and timm on the same photos, the same cores and the same wall time, each with its defaults.

    python benchmarks/side_by_side.py --hands hand-digits-train --cifar cifar10-train-images/cifar10/train \
        --ultralytics-python ULTRALYTICS/bin/python --timm-python TIMM/bin/python --timm-train train.py

``simroot train --data DIR`` runs to its end. The others get as many of their epochs as fit into its seconds; a training
of two epochs says how many that is. No network starts from weights of other images. Every tool hands over its best
epoch as ONNX (``benchmarks/hand_over``), which names the class of each held-out image; the accuracy is counted here.
Milliseconds are measured at the end, all files in turns, on one thread of ONNX Runtime.

Of the hand signs, the last fifth of the students is held out, by the numbers of the photos. Of CIFAR-10's training
images the first 500 of each class by name are trained on and the next 100 held out. Ultralytics and timm see 64 pixels,
timm 32 of CIFAR-10: in trials of equal time that was better than 64, and for Ultralytics worse. Their own 224 pixels
leave few epochs.

timm's package has no script: train.py is that of its repository. Rows that are in the JSON file are kept, so that a run
that was stopped goes on. --epochs is for a trial: simroot's epochs, instead of those that it chooses.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hand_signs
import numpy as np
import onnxruntime

from simroot.files import write_text

Row = dict[str, Any]
_HAND_OVER = Path(__file__).parent / "hand_over"
_TIMM_MODEL = "lcnet_050"  # of the published small ones that were timed the one with the quickest step
_PIXELS = {
    "hand signs": {"ultralytics_size": 64, "timm_size": 64},
    "CIFAR-10": {"ultralytics_size": 64, "timm_size": 32},
}
_AGREE = 0.01  # the tool's own accuracy may differ by so much: other decoders, batches and libraries


class Tool(NamedTuple):
    """What trains: its Python, what that must have, the command, the file of its epochs, the size of its images."""

    name: str
    python: Path
    needs: str
    command: Callable[[Path, Path, int | None], list[str]]
    epochs: str
    size: int | None


def main(argv: Sequence[str] | None = None) -> int:
    """Train what is missing, measure the times, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hands", type=Path, required=True, help="folder of the hand-sign photos, one for each digit")
    parser.add_argument("--cifar", type=Path, required=True, help="folder of CIFAR-10's training images by class")
    parser.add_argument("--ultralytics-python", type=Path, default=Path(sys.executable), metavar="PATH")
    parser.add_argument("--timm-python", type=Path, default=Path(sys.executable), metavar="PATH")
    parser.add_argument("--timm-train", type=Path, required=True, metavar="PATH", help="train.py of timm's repository")
    parser.add_argument("--only", nargs="+", help="names of sets: hand signs, CIFAR-10")
    parser.add_argument("--epochs", type=int, help="of simroot, for a trial (default: what it chooses)")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("build/side_by_side"), help="folder for images and runs")
    parser.add_argument("--out", type=Path, default=Path("results/side_by_side.json"))
    arguments = parser.parse_args(argv)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cores])
    os.environ.pop("OMP_NUM_THREADS", None)  # each tool decides how many
    os.environ["OMP_WAIT_POLICY"] = "passive"  # threads that spin would take the core of a tool's own loader
    tools = {name: _tools(arguments, **sizes) for name, sizes in _PIXELS.items()}
    if missing := [text for tool in tools["hand signs"] if (text := _missing(tool))]:
        parser.error("; ".join(missing))
    kept = json.loads(arguments.out.read_text(encoding="utf-8")) if arguments.out.exists() else {}
    rows: list[Row] = kept.get("rows", [])
    if rows and kept["trial"] != (arguments.epochs is not None):
        parser.error(f"{arguments.out} and this are not both trials: name another file by --out")
    sets = {"hand signs": (hand_signs.parts, arguments.hands), "CIFAR-10": (_first, arguments.cifar)}
    for name, (parts, folder) in sets.items():
        if name not in (arguments.only or (name,)):
            continue
        data = arguments.work.resolve() / name.replace(" ", "-")
        digest = _lay_out(data / "images", parts(folder))
        for tool in tools[name]:
            if any((row["set"], row["tool"]) == (name, tool.name) for row in rows):
                continue
            seconds = next((row["seconds"] for row in rows if (row["set"], row["tool"]) == (name, "simroot")), None)
            row = _row(tool, data / "images", data / tool.name, seconds)
            if _digest(data / "images") != digest:
                raise SystemExit(f"{tool.name} changed the images in {data / 'images'}; remove the folder, begin again")
            rows.append({"set": name, "tool": tool.name, **row, "images": digest})
            print(json.dumps(rows[-1]), file=sys.stderr)
            _write(arguments, rows)
    runs = [_folder(arguments, row["set"]) / row["tool"] for row in rows]
    for row, milliseconds in zip(rows, _times([run / "model.onnx" for run in runs]), strict=True):
        row["milliseconds"] = milliseconds
    _write(arguments, rows)
    return 0


def _folder(arguments: argparse.Namespace, name: str) -> Path:
    """Where the images and the runs of a set are."""
    return arguments.work.resolve() / name.replace(" ", "-")


def _write(arguments: argparse.Namespace, rows: list[Row]) -> None:
    script = hashlib.sha256(arguments.timm_train.read_bytes()).hexdigest()
    what = {"cores": arguments.cores, "timm_train_sha256": script, "trial": arguments.epochs is not None}
    write_text(arguments.out, json.dumps({**what, "rows": rows}, indent=1) + "\n")


def _tools(arguments: argparse.Namespace, ultralytics_size: int, timm_size: int) -> list[Tool]:
    """simroot first: its seconds are those of the others."""

    def simroot(data: Path, run: Path, _: int | None) -> list[str]:
        trial = [] if arguments.epochs is None else ["--recipe.epochs", str(arguments.epochs)]
        return ["-m", "simroot", "train", "--data", str(data), "--out", str(run), *trial]

    def ultralytics(data: Path, run: Path, epochs: int | None) -> list[str]:
        start = "from ultralytics.cfg import entrypoint; entrypoint()"
        where = [f"project={run.parent}", f"name={run.name}", "exist_ok=True", "device=cpu"]
        how = ["model=yolo26n-cls.yaml", f"imgsz={ultralytics_size}", f"epochs={epochs}"]
        return ["-c", start, "classify", "train", f"data={data}", *how, *where]

    def timm(data: Path, run: Path, epochs: int | None) -> list[str]:
        classes = len(list((data / "val").iterdir()))
        size = str(timm_size)
        network = ["--model", _TIMM_MODEL, "--num-classes", str(classes), "--input-size", "3", size, size]
        how = ["--epochs", str(epochs), "--device", "cpu", "--workers", "1"]
        where = ["--output", str(run.parent), "--experiment", run.name]
        return [str(arguments.timm_train.resolve()), "--data-dir", str(data), *network, *how, *where]

    needed = "ultralytics, onnx, onnxslim"
    return [
        Tool("simroot", Path(sys.executable), "simroot, onnx", simroot, "metrics.csv", None),
        Tool("Ultralytics", arguments.ultralytics_python, needed, ultralytics, "results.csv", ultralytics_size),
        Tool("timm", arguments.timm_python, "timm, onnx", timm, "summary.csv", timm_size),
    ]


def _missing(tool: Tool) -> str | None:
    """What a tool cannot do without, in words."""
    try:
        done = subprocess.run([tool.python, "-c", f"import {tool.needs}"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{tool.name}: no Python at {tool.python} ({error.strerror}); name it by --{tool.name.lower()}-python"
    if done.returncode:
        return f"{tool.name}: {tool.python} cannot import {tool.needs}: {done.stderr.splitlines()[-1]}"
    return None


def _first(folder: Path) -> dict[str, list[Path]]:
    """The first 500 images of each class, and the next 100."""
    classes = [sorted(path.iterdir()) for path in sorted(folder.iterdir())]
    train, val = ([path for paths in classes for path in paths[part]] for part in (slice(500), slice(500, 600)))
    return {"train": train, "val": val}


def _lay_out(folder: Path, parts: dict[str, list[Path]]) -> str:
    """Copy the images to ``folder/PART/CLASS``, once; their digest."""
    if not folder.exists():
        made = folder.with_name(".images")
        shutil.rmtree(made, ignore_errors=True)
        for part, paths in parts.items():
            for path in paths:
                target = made / part / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        made.rename(folder)
    return _digest(folder)


def _images(folder: Path) -> Iterable[Path]:
    return sorted(path for path in folder.glob("*/*/*") if path.is_file())


def _digest(folder: Path) -> str:
    """Of the names and the bytes of all images."""
    found = hashlib.sha256()
    for path in _images(folder):
        found.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return found.hexdigest()


def _row(tool: Tool, images: Path, run: Path, seconds: float | None) -> Row:
    """Train a tool for so many seconds, None: to its end, and count what it gets right."""
    epochs = None if seconds is None else _fitting(tool, images, run.with_name(f"{run.name}-two-epochs"), seconds)
    wall, cpu, _ = _train(tool, images, run, epochs)
    program = _HAND_OVER / f"with_{tool.name.lower()}.py"
    words = [str(tool.python), str(program), str(images / "val"), str(run), *([str(tool.size)] if tool.size else [])]
    _run(words, run.with_name(f"{run.name}-hand-over.log"), {"OMP_NUM_THREADS": "1"})
    said = json.loads((run / "handed_over.json").read_text(encoding="utf-8"))
    predicted = said.pop("classes")
    truth = {path.relative_to(images / "val").as_posix(): path.parent.name for path in (images / "val").glob("*/*")}
    if predicted.keys() != truth.keys():
        raise SystemExit(
            f"{tool.name} classified {len(predicted)} images; expected the {len(truth)} of {images / 'val'}"
        )
    accuracy = statistics.fmean(predicted[name] == truth[name] for name in truth)
    if abs(accuracy - said["own_accuracy"]) > _AGREE:
        raise SystemExit(f"{tool.name} says {said['own_accuracy']:.4f}, but its file has {accuracy:.4f} right: {run}")
    return {
        **said,
        "accuracy": accuracy,
        "validation": len(truth),
        "epochs": len(_lines(run / tool.epochs)),
        "seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "bytes": (run / "model.onnx").stat().st_size,
    }


def _fitting(tool: Tool, images: Path, run: Path, seconds: float) -> int:
    """How many epochs fit: the second of two says how long one takes, the rest is spent once."""
    wall, _, seen = _train(tool, images, run, 2)
    epoch = seen[1] - seen[0]
    return max(1, int((seconds - (wall - 2 * epoch)) / epoch))


def _train(tool: Tool, images: Path, run: Path, epochs: int | None) -> tuple[float, float, list[float]]:
    """Seconds of the wall and of the cores, and the moments at which the epochs were written down."""
    shutil.rmtree(run, ignore_errors=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    seen: list[float] = []

    def look() -> None:
        seen.extend([time.monotonic() - start] * (len(_lines(run / tool.epochs)) - len(seen)))

    words = [str(tool.python), *tool.command(images, run, epochs)]
    _run(words, run.with_name(f"{run.name}.log"), {}, look)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, seen


def _run(words: list[str], log: Path, environment: dict[str, str], look: Callable[[], None] = lambda: None) -> None:
    """A program to its end, its output in a file; ``look`` several times a second."""
    settings = {"YOLO_CONFIG_DIR": str(log.parent / ".settings"), "YOLO_AUTOINSTALL": "false", **environment}
    with log.open("w", encoding="utf-8") as output:
        program = subprocess.Popen(words, stdout=output, stderr=output, cwd=log.parent, env=os.environ | settings)
        while program.poll() is None:
            look()
            time.sleep(0.1)
        look()
    if program.returncode:
        raise SystemExit(f"exit code {program.returncode} of {' '.join(words)}; its output is in {log}")


def _lines(path: Path) -> list[dict[str, str]]:
    """The epochs that a tool has written down."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _times(files: list[Path], rounds: int = 30, calls: int = 10) -> list[float]:
    """Milliseconds an image of each file, on one thread: the median of many calls, in rounds in which all take part."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    generator = np.random.default_rng(0)
    runs: list[Callable[[], Any]] = []
    for file in files:
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        (wanted,) = session.get_inputs()
        shape = [1, *wanted.shape[1:]]
        pixels = generator.integers(0, 256, shape).astype(np.uint8)
        image = pixels if "uint8" in wanted.type else (pixels / 255).astype(np.float32)
        runs.append(lambda session=session, name=wanted.name, image=image: session.run(None, {name: image}))
    taken: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, mine in zip(runs, taken, strict=True):
            run()
            for _ in range(calls):
                start = time.perf_counter()
                run()
                mine.append((time.perf_counter() - start) * 1000)
    return [round(statistics.median(mine), 3) for mine in taken]


if __name__ == "__main__":
    sys.exit(main())
