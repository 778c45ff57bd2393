"""The native kernels: where they are, which instruction set they use, and how to do without them."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import has_torch_function

from simroot.borrowed.from_torch import constant_when_compiled
from simroot.errors import ConfigError
from simroot.ops.common import without_branches

VARIABLE = "SIMROOT_KERNELS"
"""Environment variable: ``auto`` (the default), ``reference`` for none, or an instruction set such as ``avx2``."""

REFERENCE = "reference"

SMALLEST = 2**14
"""Below so many numbers PyTorch's own operations on images are called faster."""

_CHOSEN = f"chosen by {VARIABLE}"
_INTERFACE = 7  # SIMROOT_INTERFACE of csrc/simroot.h
_NAMES = {"linux": "libsimroot.so", "darwin": "libsimroot.so", "win32": "simroot.dll"}


class Kernels(NamedTuple):
    """Which kernels are in use, an instruction set or ``reference`` (PyTorch), and why."""

    name: str
    reason: str


class _Library:
    """The shared library; its threads are those of PyTorch's OpenMP runtime where it has one."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        if (interface := self._library.simroot_interface()) != _INTERFACE:
            raise OSError(f"its interface is {interface}, expected {_INTERFACE}; install the package again")
        self._library.simroot_instruction_sets.restype = ctypes.c_char_p
        self._library.simroot_kernel.restype = ctypes.c_void_p
        self._library.simroot_kernel.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        self._library.simroot_fields.restype = ctypes.c_char_p
        self._library.simroot_fields.argtypes = [ctypes.c_char_p]
        self._library.simroot_use_openmp.argtypes = [ctypes.c_void_p]
        self.instruction_sets: list[str] = self._library.simroot_instruction_sets().decode().split(",")
        if (openmp := _openmp()) is not None:
            self._library.simroot_use_openmp(openmp)

    def address(self, name: str, instruction_set: str) -> int:
        address: int = self._library.simroot_kernel(name.encode(), instruction_set.encode())
        return address

    def fields(self, name: str) -> list[tuple[str, Any]]:
        """Names and ctypes of a kernel's arguments, as csrc/simroot.h declares them."""
        declared = self._library.simroot_fields(name.encode())
        if declared is None:
            raise LookupError(
                f"the library has no kernel {name}; name it in csrc/simroot.h, then build the library again"
            )
        split = (one.rpartition(" ") for one in declared.decode().rstrip(";").split(";"))
        return [(field, _type_of(kind)) for kind, _, field in split]


def _type_of(kind: str) -> Any:
    return ctypes.c_void_p if kind.endswith("*") else getattr(ctypes, f"c_{kind.removesuffix('_t')}")


def _openmp() -> int | None:
    # Importing PyTorch has loaded the runtime that is asked for here.
    if sys.platform != "linux":
        return None
    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except AttributeError:
        return None


@cache
def _library() -> _Library | str:
    """The library, or why there is none."""
    path = Path(__file__).resolve().parents[1] / _NAMES.get(sys.platform, "libsimroot.so")
    if not path.exists():
        return "this installation was built without a C++ compiler"
    try:
        return _Library(path)
    except (OSError, AttributeError) as error:
        return f"{path.name} cannot be loaded: {error}"


def _choose(wanted: str) -> Kernels:
    if wanted == REFERENCE:
        return Kernels(REFERENCE, _CHOSEN)
    library = _library()
    if wanted in ("", "auto"):
        if isinstance(library, str):
            return Kernels(REFERENCE, library)
        return Kernels(library.instruction_sets[0], "the best that this processor has")
    known = [] if isinstance(library, str) else library.instruction_sets
    if wanted not in known:
        why = f" ({library})" if isinstance(library, str) else ""
        expected = ", ".join([REFERENCE, *known])
        raise ConfigError(
            f"{wanted!r} are no kernels of this machine ({VARIABLE}); expected auto or one of {expected}{why}"
        )
    return Kernels(wanted, _CHOSEN)


_current: Kernels | None = None


def kernels_in_use() -> Kernels:
    """The kernels that float32 tensors on the CPU meet; chosen at the first use, by ``SIMROOT_KERNELS``.

    Raises:
        ConfigError: if the variable names kernels that this processor or installation does not have.
    """
    global _current
    if _current is None:
        _current = _choose(os.environ.get(VARIABLE, "auto"))
    return _current


@contextmanager
def use_kernels(name: str) -> Iterator[Kernels]:
    """Other kernels inside the context: ``auto``, ``reference`` or an instruction set.

    Raises:
        ConfigError: if this processor or installation does not have them.
    """
    global _current
    before = kernels_in_use()
    _current = _choose(name)
    try:
        yield _current
    finally:
        _current = before


def available_kernels() -> list[str]:
    """All kernels that this processor can run, best first, the reference last."""
    library = _library()
    return [*([] if isinstance(library, str) else library.instruction_sets), REFERENCE]


def native() -> bool:
    """Whether native kernels are in use."""
    return kernels_in_use().name != REFERENCE


def has_native(x: Tensor) -> bool:
    """Whether native kernels are in use and serve `x`."""
    suitable = x.device.type == "cpu" and x.dtype == torch.float32 and not without_branches()
    return suitable and _kernels_chosen() and native()


def serves_images(x: Tensor, *others: Tensor) -> bool:
    """Whether native kernels serve images (N, C, H, W) as they lie in memory, channels-last, beside other tensors.

    Under modes that watch a network, and under autocast, they do not.
    """
    if x.ndim != 4 or has_torch_function((x, *others)) or not has_native(x) or torch.is_autocast_enabled("cpu"):
        return False
    return x.is_contiguous(memory_format=torch.channels_last)


def serves_together(x: Tensor, others: Iterable[tuple[Tensor | None, Sequence[int]]]) -> bool:
    """Whether kernels serve images beside tensors that are not None, which must have these shapes and x's kind."""
    given = [(tensor, shape) for tensor, shape in others if tensor is not None]
    return serves_images(x, *(tensor for tensor, _ in given)) and all(
        tensor.shape == tuple(shape) and (tensor.dtype, tensor.device) == (x.dtype, x.device) for tensor, shape in given
    )


def laid_out(**tensors: Tensor | None) -> dict[str, Tensor | None]:
    """Images channels-last, all else contiguous, as kernels read them."""
    formats = {4: torch.channels_last}
    return {
        name: None if one is None else one.contiguous(memory_format=formats.get(one.ndim, torch.contiguous_format))
        for name, one in tensors.items()
    }


@constant_when_compiled
def _kernels_chosen() -> bool:
    """Makes the choice of kernels, which a compiled function cannot do by itself; what was chosen it may look at."""
    kernels_in_use()
    return True


def reference_chosen() -> bool:
    """Whether kernels of every device, not only the CPU's, have been turned off."""
    return kernels_in_use() == (REFERENCE, _CHOSEN)


@cache
def arguments_of(name: str) -> type[ctypes.Structure]:
    """The struct of a kernel's arguments."""
    library = _library()
    assert isinstance(library, _Library)
    return type(name, (ctypes.Structure,), {"_fields_": library.fields(name)})


@cache
def _function(name: str, instruction_set: str) -> Any:
    library = _library()
    assert isinstance(library, _Library)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(arguments_of(name)), ctypes.c_int)
    return prototype(library.address(name, instruction_set))


def run(name: str, purpose: str, /, **arguments: Tensor | float | None) -> None:
    """Call a kernel of csrc/simroot.h, without the GIL, with as many threads as PyTorch has.

    Args:
        name: of the kernel.
        purpose: what it computes, for the error.
        arguments: the kernel's, each by its name; tensors are given as they lie in memory.

    Raises:
        MemoryError: if none is left for it.
    """
    given = {key: value.data_ptr() if isinstance(value, Tensor) else value for key, value in arguments.items()}
    struct = arguments_of(name)
    if differing := given.keys() ^ {field[0] for field in struct._fields_}:
        raise TypeError(f"{name} is given too few or too many arguments: {', '.join(sorted(differing))}")
    # The choice may have changed since the forward pass, or since a graph was compiled.
    with nullcontext() if native() else use_kernels("auto"):
        failed = _function(name, kernels_in_use().name)(struct(**given), torch.get_num_threads())
    if failed:
        raise MemoryError(f"no memory left for {purpose}; use smaller batches")
