"""Networks as WebAssembly in Node, beside the same text compiled for this machine: one image, one thread.

    python benchmarks/web_times.py "5K, simnet_residual=runs/residual-5k"

Each NAME=RUN is exported as a page and as C, in float32 and in int8. A few images must give the scores of the C
text, in int8 to the bit. Milliseconds are the processor's, of both in turns: the shortest of many turns. Node optimises
the module before it runs; a browser begins with code that is several times as slow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines import load_file
from simroot.engines.host import channels_last
from simroot.export import Options, to_c, to_web
from simroot.files import write_text
from simroot.training import Run, export_options, load_run
from simroot.training.environment import versions

_CALIBRATION, _IMAGES = 512, 16
_TURNS, _CALLS, _FIRST = 3, 20, 50  # calls of which a time is the mean, and calls before
_TOLERANCE = 1e-5  # of the largest score: sums are the same, but compilers for this machine may join operations
_SCRIPT = """
import { readFileSync } from "node:fs";
const [file, pictures, calls, first] = process.argv.slice(1);
const { instance } = await WebAssembly.instantiate(readFileSync(file));
const wasm = instance.exports, bytes = readFileSync(pictures), size = wasm.input_bytes(), scores = [];
const view = (type, at, count) => new type(wasm.memory.buffer, at, count);
for (let at = 0; at < bytes.length; at += size) {
  view(Uint8Array, wasm.input(), size).set(bytes.subarray(at, at + size));
  wasm.classify();
  scores.push([...view(Float32Array, wasm.scores(), wasm.classes())]);
}
let best = Infinity;
for (let k = 0; k < first; ++k) wasm.classify();
for (let turn = 0; turn < 30; ++turn) {
  const start = process.cpuUsage();
  for (let k = 0; k < calls; ++k) wasm.classify();
  const { user, system } = process.cpuUsage(start);
  best = Math.min(best, (user + system) / 1000 / calls);
}
console.log(JSON.stringify({ best, scores, version: process.version }));
"""

# Of docs/tables.py: of each column where in a row its number is, and how it is written.
TABLES = {
    "times": {
        **{f"{kind}, page in bytes": (f"{kind}/bytes", "{:,}") for kind in ("float32", "int8")},
        **{f"{kind}, Node": (f"{kind}/node", "{:.3f}") for kind in ("float32", "int8")},
        **{f"{kind}, C": (f"{kind}/c", "{:.3f}") for kind in ("float32", "int8")},
    }
}


def main(argv: Sequence[str] | None = None) -> int:
    """Export, measure, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--out", type=Path, default=Path("results/web_times.json"))
    arguments = parser.parse_args(argv)
    rows = []
    for name, _, path in (word.partition("=") for word in arguments.networks):
        run = load_run(Path(path))
        row: dict[str, Any] = {"network": name}
        options = export_options(run, images=_IMAGES, calibration=_CALIBRATION)
        for kind in ("float32", "int8"):
            with tempfile.TemporaryDirectory() as folder:
                row[kind] = _measured(run, kind, options, Path(folder))
        rows.append(row)
        print(json.dumps(row), file=sys.stderr)
    found = {"command": "python benchmarks/web_times.py NAME=RUN ...", "tables": TABLES}
    write_text(arguments.out, json.dumps(found | {"versions": versions(), "rows": rows}, indent=1) + "\n")
    return 0


def _measured(run: Run, kind: str, options: Options, folder: Path) -> dict[str, Any]:
    """Bytes of a page, milliseconds of an image in Node and in C."""
    given: Any = {k: v for k, v in options.items() if kind == "int8" or k not in ("calibration", "ranges")}
    size = to_web(run.model, folder / "web", run.preparation.shape, **given).size
    to_c(run.model, folder / "c", run.preparation.shape, **given)
    images = np.asarray(options["images"])
    program = load_file(next(file for file in (folder / "c").glob("*.c") if not file.stem.endswith("_test")), threads=1)
    expected, call = np.asarray(program.run(images)), program.bind(images[:1])
    (folder / "pictures").write_bytes(channels_last(images).tobytes())
    node, c = [], []
    for _ in range(_TURNS):
        node.append(_in_node(folder))
        _require_same(np.array(node[-1]["scores"], dtype=np.float32), expected, kind)
        c.append(min(_milliseconds(call) for _ in range(100)))
    best = min(one["best"] for one in node)
    return {"bytes": size, "node": round(best, 4), "c": round(min(c), 4), "version": node[0]["version"]}


def _in_node(folder: Path) -> dict[str, Any]:
    words = [
        "node",
        "--single-threaded",
        "--no-liftoff",
        "--input-type=module",
        "--eval",
        _SCRIPT,
        str(folder / "web" / "model.wasm"),
    ]
    words += [str(folder / "pictures"), str(_CALLS), str(_FIRST)]
    found: dict[str, Any] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return found


def _require_same(found: NDArray[np.float32], expected: NDArray[np.float32], kind: str) -> None:
    apart = float(np.abs(found - expected).max())
    if apart > (0 if kind == "int8" else _TOLERANCE * float(np.abs(expected).max())):
        raise SystemExit(f"{kind}: the scores in Node are {apart:g} from those in C")


def _milliseconds(call: Any) -> float:
    start = time.process_time()
    for _ in range(_CALLS):
        call()
    return 1e3 * (time.process_time() - start) / _CALLS


if __name__ == "__main__":
    sys.exit(main())
