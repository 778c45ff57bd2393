"""Networks as files for devices: ONNX, OpenVINO and torch.export, checked against the network, and what runs them.

``Predictor`` needs NumPy, Pillow and an engine; only what writes files needs PyTorch.
"""

from typing import TYPE_CHECKING

from simroot.engines.operators import operators_library
from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.export.c import to_c
    from simroot.export.checked import (
        ACCURACY_LOSS,
        AGREEMENT,
        FILE_TOLERANCE,
        TOLERANCE,
        Exported,
        Options,
        RefusedError,
    )
    from simroot.export.description import Description
    from simroot.export.evaluation import FileEvaluation, evaluate_file
    from simroot.export.predictor import Predictor
    from simroot.export.tflite import to_tflite
    from simroot.export.web import to_wasm, to_web
    from simroot.export.write import to_onnx, to_openvino, to_torch_export

__all__ = [
    "ACCURACY_LOSS",
    "AGREEMENT",
    "FILE_TOLERANCE",
    "TOLERANCE",
    "Description",
    "Exported",
    "FileEvaluation",
    "Options",
    "Predictor",
    "RefusedError",
    "evaluate_file",
    "operators_library",
    "to_c",
    "to_onnx",
    "to_openvino",
    "to_tflite",
    "to_torch_export",
    "to_wasm",
    "to_web",
]

serve(
    __name__,
    c=("to_c",),
    description=("Description",),
    evaluation=("FileEvaluation", "evaluate_file"),
    checked=("ACCURACY_LOSS", "AGREEMENT", "FILE_TOLERANCE", "TOLERANCE", "Exported", "Options", "RefusedError"),
    predictor=("Predictor",),
    web=("to_wasm", "to_web"),
    tflite=("to_tflite",),
    write=("to_onnx", "to_openvino", "to_torch_export"),
)
