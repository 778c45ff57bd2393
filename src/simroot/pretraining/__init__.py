"""Pre-training of SimNets from images without labels (Deep SimNets, section 5)."""

from typing import TYPE_CHECKING

from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.pretraining.channels import build
    from simroot.pretraining.forward import initialise
    from simroot.pretraining.from_images import pretrain
    from simroot.pretraining.offsets import classify
    from simroot.pretraining.options import DIMENSIONS, PATCHES, Method, Offsets, Scale
    from simroot.pretraining.plots import pictures
    from simroot.pretraining.report import Curve, LayerReport, Report
    from simroot.pretraining.saved import Start, read_start, save

__all__ = [
    "DIMENSIONS",
    "PATCHES",
    "Curve",
    "LayerReport",
    "Method",
    "Offsets",
    "Report",
    "Scale",
    "Start",
    "build",
    "classify",
    "initialise",
    "pictures",
    "pretrain",
    "read_start",
    "save",
]

serve(
    __name__,
    channels=("build",),
    saved=("Start", "read_start", "save"),
    from_images=("pretrain",),
    offsets=("classify",),
    options=("DIMENSIONS", "PATCHES", "Method", "Offsets", "Scale"),
    plots=("pictures",),
    report=("Curve", "LayerReport", "Report"),
    forward=("initialise",),
)
