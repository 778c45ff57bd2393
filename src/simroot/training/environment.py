"""What a training ran on and with: versions, processor, threads and the source's commit."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import simroot


def versions() -> dict[str, Any]:
    """Versions and machine; the same ones give the same weights, bit for bit. PyTorch's only where it is in use."""
    machine = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
    }
    if "torch" not in sys.modules:
        return {"simroot": simroot.__version__, **machine}
    import torch

    return {
        "simroot": simroot.__version__,
        "torch": str(torch.__version__),
        "lightning": metadata.version("lightning"),  # without importing it
        **machine,
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's name as people know it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the checkout that this package is part of; None if it is installed some other way."""
    folder = Path(simroot.__file__).parent
    try:
        _git(folder, "ls-files", "--error-unmatch", "__init__.py")
        return _git(folder, "rev-parse", "HEAD")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
