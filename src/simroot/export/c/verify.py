"""The C text on the instruction sets of small devices, in an emulator, against this machine's bits."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simroot.engines.host import WARNINGS
from simroot.errors import ConfigError, ExportError
from simroot.export.c.text import kernel, table

OPTIONS = ("-O2", *WARNINGS, "-ffp-contract=off", "-ffunction-sections", "-fdata-sections", "-fno-builtin-printf")
"""Of the compiler, for every target."""

_SECONDS = 300
_KIBI, _MEBI = 1024, 1024**2


@dataclass(frozen=True)
class Target:
    """A processor, its compiler and its emulator.

    Attributes:
        compiler: command, and ``options`` for the processor.
        emulator: command and machine.
        start: the kernel with its first instructions.
        memory: beginnings and sizes of code and data.
        instructions: for each step of its clock; the emulator gives an instruction one nanosecond.
    """

    compiler: str
    options: tuple[str, ...]
    emulator: tuple[str, ...]
    start: str
    memory: dict[str, int]
    instructions: float


def _arm(machine: str, options: tuple[str, ...], code: int, data: int, megahertz: float, code_size: int) -> Target:
    emulator = ("qemu-system-arm", "-machine", machine)
    memory = {"code": code, "codesize": code_size, "data": data, "datasize": 2 * _MEBI}
    return Target("arm-none-eabi-gcc", ("-mthumb", *options), emulator, "arm.c", memory, 1000 / megahertz)


_HARD = ("-mfloat-abi=hard",)
TARGETS = {
    "cortex-m4": _arm("mps2-an386", ("-mcpu=cortex-m4", *_HARD, "-mfpu=fpv4-sp-d16"), 0, 0x20000000, 25, 4 * _MEBI),
    "cortex-m33": _arm(
        "mps2-an505", ("-mcpu=cortex-m33", *_HARD, "-mfpu=fpv5-sp-d16"), 0x10000000, 0x38000000, 20, 4 * _MEBI
    ),
    "cortex-m55": _arm("mps3-an547", ("-mcpu=cortex-m55", *_HARD), 0, 0x01000000, 32, 512 * _KIBI),
    "riscv32": Target(
        "riscv64-unknown-elf-gcc",
        ("-march=rv32imac", "-mabi=ilp32", "--specs=picolibc.specs"),
        ("qemu-system-riscv32", "-machine", "virt", "-bios", "none"),
        "riscv.c",
        {"code": 0x80000000, "codesize": 16 * _MEBI, "data": 0x81000000, "datasize": 16 * _MEBI},
        1.0,
    ),
}
"""By the name that ``--verify`` takes."""


@dataclass(frozen=True)
class Verified:
    """What came of a target.

    Attributes:
        target: its name.
        images: how many images gave the same bits; 0 if it was not tried.
        instructions: an image takes, on average, as the emulator counts them.
        stack: the most bytes that the call took, as what it left behind shows.
        code: bytes of code, without constants of the network.
        skipped: why it was not tried, or empty.
    """

    target: str
    images: int = 0
    instructions: int = 0
    stack: int = 0
    code: int = 0
    skipped: str = ""


def check_targets(targets: tuple[str, ...]) -> None:
    """Refuse what is no target.

    Raises:
        ConfigError: naming it and those that there are.
    """
    if unknown := [name for name in targets if name not in TARGETS]:
        raise ConfigError(f"unknown target {unknown[0]!r} to verify on; known are {', '.join(TARGETS)}")


def verify(
    name: str,
    folder: Path,
    prefix: str,
    images: NDArray[Any],
    expected: NDArray[np.float32],
    flash: int,
    defined: Sequence[str] = (),
) -> Verified:
    """Build a network for a target, run images in the emulator and compare the scores, every bit.

    Args:
        name: of the target.
        folder: with the network's C text.
        prefix: what its functions are called after.
        images: (n, H, W, C), as it takes them.
        expected: float32 (n, classes), this machine's scores.
        flash: bytes of the network's constants.
        defined: macros for the compiler.

    Raises:
        ExportError: if the compiler refuses the text, the emulator fails, or a bit differs.
    """
    target = TARGETS[name]
    missing = next((tool for tool in (target.compiler, target.emulator[0]) if shutil.which(tool) is None), None)
    if missing is not None:
        return Verified(name, skipped=f"{missing} is not installed")
    with tempfile.TemporaryDirectory(prefix="simroot-verify-") as room:
        program = _build(target, name, folder, prefix, images, Path(room), [f"-D{macro}" for macro in defined])
        text = _run(target, name, program)
        size = _code_size(target, program) - flash - images.nbytes
    words = np.array([int(word, 16) for word in text], dtype=np.uint32).reshape(len(images), -1)
    found = words[:, 2:].copy().view(np.float32)
    wrong = (found.view(np.uint32) != expected.view(np.uint32)).any(1)
    if wrong.any():
        raise ExportError(
            f"on {name} {wrong.sum()} of {len(images)} images give other bits than here; please report it"
        )
    steps = float(words[:, 0].astype(np.float64).mean())
    return Verified(name, len(images), round(steps * target.instructions), int(words[:, 1].max()), max(size, 0))


def _build(
    target: Target, name: str, folder: Path, prefix: str, images: NDArray[Any], room: Path, more: Sequence[str]
) -> Path:
    kind = "uint8_t" if images.dtype == np.uint8 else "float"
    fields = {"name": prefix, "upper": prefix.upper(), "count": len(images), "images": table(kind, "images", images)}
    (room / "main.c").write_text(kernel("verify/main.c", **fields), encoding="utf-8")
    (room / "start.c").write_text(kernel(f"verify/{target.start}"), encoding="utf-8")
    memory = {key: hex(value) for key, value in target.memory.items()}
    (room / "memory.ld").write_text(kernel("verify/memory.ld", **memory), encoding="utf-8")
    program = room / "program.elf"
    sources = [str(room / "main.c"), str(room / "start.c"), str(folder / f"{prefix}.c")]
    link = ["-nostartfiles", "-Wl,--gc-sections", "-T", str(room / "memory.ld"), f"-I{folder}", "-lm"]
    words = [target.compiler, *target.options, *OPTIONS, *more, "-o", str(program), *sources, *link]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise ExportError(f"{target.compiler} refuses the C text for {name}: {(lines or ['without a word'])[0]}")
    return program


def _run(target: Target, name: str, program: Path) -> list[str]:
    options = ("-nographic", "-monitor", "none", "-serial", "none", "-icount", "shift=0")
    console = ("-semihosting-config", "enable=on,target=native")
    words = [*target.emulator, *options, *console, "-kernel", str(program)]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=_SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"{name} does not come to an end in {target.emulator[0]}; verify fewer images") from error
    lines = (done.stdout + done.stderr).split("\n")
    if "scores" not in lines or "end" not in lines:
        said = next((line for line in lines if line.strip()), "nothing")
        raise ExportError(f"{target.emulator[0]} fails on {name}; it says: {said}")
    return lines[lines.index("scores") + 1 : lines.index("end")]


def _code_size(target: Target, program: Path) -> int:
    """Bytes of code and constants."""
    tool = target.compiler.removesuffix("gcc") + "size"
    if shutil.which(tool) is None:
        return 0
    done = subprocess.run([tool, str(program)], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[1].split()[0])
