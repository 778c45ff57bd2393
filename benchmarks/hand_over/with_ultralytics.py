"""A run of Ultralytics as ONNX, and the class of each image: ``python with_ultralytics.py IMAGES RUN SIZE``."""

import json
import shutil
import sys
from pathlib import Path

import ultralytics

images, run, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
best = ultralytics.YOLO(run / "weights" / "best.pt")
best.fuse()
parameters = sum(parameter.numel() for parameter in best.model.parameters())
shutil.copy(best.export(format="onnx", imgsz=size), run / "model.onnx")
network = ultralytics.YOLO(run / "model.onnx", task="classify")
paths = sorted(images.glob("*/*"))
found = [network.predict(path, imgsz=size, device="cpu", verbose=False)[0] for path in paths]
said = {
    "version": ultralytics.__version__,
    "network": "yolo26n-cls",
    "size": size,
    "parameters": parameters,
    "own_accuracy": best.ckpt["train_metrics"]["metrics/accuracy_top1"],
    "classes": {
        path.relative_to(images).as_posix(): one.names[one.probs.top1] for path, one in zip(paths, found, strict=True)
    },
}
(run / "handed_over.json").write_text(json.dumps(said), encoding="utf-8")
