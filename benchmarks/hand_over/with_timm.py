"""A run of timm's train.py as ONNX, and the class of each image: ``python with_timm.py IMAGES RUN SIZE``."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import timm
import yaml
from timm.data import ImageDataset, create_transform, resolve_data_config
from timm.utils.onnx import onnx_export

images, run, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
arguments = yaml.safe_load((run / "args.yaml").read_text(encoding="utf-8"))
model = timm.create_model(
    arguments["model"],
    num_classes=arguments["num_classes"],
    checkpoint_path=run / "model_best.pth.tar",
    exportable=True,
)
config = resolve_data_config(arguments, model=model)
onnx_export(model, str(run / "model.onnx"), batch_size=1, input_size=(3, size, size))
session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
data = ImageDataset(str(images), transform=create_transform(**config, is_training=False))
names = {index: name for name, index in data.reader.class_to_idx.items()}
classes = {}
for index in range(len(data)):
    scores = session.run(None, {session.get_inputs()[0].name: data[index][0][None].numpy()})[0]
    classes[Path(data.filename(index)).as_posix()] = names[int(np.argmax(scores))]
with (run / "summary.csv").open(encoding="utf-8") as file:
    epochs = [float(row["eval_top1"]) for row in csv.DictReader(file)]
said = {
    "version": timm.__version__,
    "network": arguments["model"],
    "size": size,
    "parameters": sum(parameter.numel() for parameter in model.parameters()),
    "own_accuracy": max(epochs) / 100,
    "classes": classes,
}
(run / "handed_over.json").write_text(json.dumps(said), encoding="utf-8")
