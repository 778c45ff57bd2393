"""``simroot doctor``: what this installation runs on."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from importlib.util import find_spec

import simroot
from simroot.cli.output import print_facts, print_json
from simroot.engines import ENGINES

LIBRARIES = (
    *("torch", "torchvision", "lightning", "torchmetrics", "triton", "numpy", "scikit-learn", "pillow", "safetensors"),
    *("onnx", *(engine.package for engine in ENGINES.values() if engine.package not in ("", "torch"))),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print versions, processor, devices and kernels."""
    facts = installation()
    if arguments.json:
        print_json(facts)
    else:
        print_facts("simroot on this machine", facts.items())
    return 0


def installation() -> dict[str, str]:
    """Everything that a report of a fault should say about the machine, in the order in which to read it."""
    return {
        "simroot": simroot.__version__,
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
        "platform": platform.platform(),
        **(_pytorch() if find_spec("torch") else {"processor": f"{platform.machine()}, {os.cpu_count()} cores"}),
    }


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _pytorch() -> dict[str, str]:
    import torch

    from simroot.ops import kernels_in_use

    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    devices = ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
    return {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "threads": f"{torch.get_num_threads()} (inside an operation), {torch.get_num_interop_threads()} (between them)",
        "devices": ", ".join(devices),
        "kernels": "{} ({})".format(*kernels_in_use()),
    }
