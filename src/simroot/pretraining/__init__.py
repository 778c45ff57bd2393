"""Pre-training of SimNets from images without labels (Deep SimNets, section 5)."""

from simroot.pretraining.channels import DIMENSIONS, build
from simroot.pretraining.files import Start, read_start, save
from simroot.pretraining.job import pretrain
from simroot.pretraining.layers import Method, Scale
from simroot.pretraining.offsets import Offsets, classify
from simroot.pretraining.plots import pictures
from simroot.pretraining.report import Curve, LayerReport, Report
from simroot.pretraining.sweep import PATCHES, initialise

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
