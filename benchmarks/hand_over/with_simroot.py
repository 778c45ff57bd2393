"""A run of ``simroot train`` as ONNX, and the class of each image: ``python with_simroot.py IMAGES RUN``."""

import json
import subprocess
import sys
from pathlib import Path

from simroot.export import Predictor

images, run = map(Path, sys.argv[1:])
file = run / "model.onnx"
subprocess.run([sys.executable, "-m", "simroot", "export", run, "--format", "onnx", "--out", file], check=True)
paths = sorted(images.glob("*/*"))
best = Predictor(file).classify(paths)
summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
said = {
    "version": summary["versions"]["simroot"],
    "network": " ".join([summary["model"], *(f"{key}={value}" for key, value in summary["overrides"].items())]),
    "size": summary["data"]["image_size"],
    "parameters": summary["parameters"],
    "own_accuracy": summary["accuracy"],
    "classes": {path.relative_to(images).as_posix(): top[0][0] for path, top in zip(paths, best, strict=True)},
}
(run / "handed_over.json").write_text(json.dumps(said), encoding="utf-8")
