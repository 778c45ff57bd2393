"""Which kernels are in use, and why."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simroot.errors import ConfigError
from simroot.ops import available_kernels, kernels_in_use, use_kernels
from simroot.ops import native as _native

HEADER = Path(__file__).parents[2] / "csrc" / "simroot.h"
BUILT = available_kernels() != [_native.REFERENCE]


@pytest.fixture(autouse=True)
def kernels() -> str:
    """Here the kernels are those that are found, once."""
    return kernels_in_use().name


def doctor(**environment: str) -> subprocess.CompletedProcess[str]:
    """The kernels of a new process."""
    script = "from simroot.ops import kernels_in_use; print(*kernels_in_use(), sep='|')"
    source = str(Path(_native.__file__).parents[2])
    variables = {**os.environ, "PYTHONPATH": source, **environment}
    return subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=False)


def test_a_context_has_its_own_kernels(kernels: str) -> None:
    assert kernels_in_use().name == kernels
    with use_kernels("reference") as inside:
        assert inside == kernels_in_use() == (_native.REFERENCE, "chosen by SIMROOT_KERNELS")
        assert not _native.native()
    assert kernels_in_use().name == kernels


def test_unknown_kernels_are_refused(kernels: str) -> None:
    expected = pytest.raises(
        ConfigError, match=r"'mmx' are no kernels of this machine \(SIMROOT_KERNELS\); expected auto or one of "
    )
    with expected, use_kernels("mmx"):
        pass
    assert kernels_in_use().name == kernels


@pytest.mark.slow
def test_the_environment_turns_them_off() -> None:
    assert doctor(SIMROOT_KERNELS="reference").stdout.strip() == "reference|chosen by SIMROOT_KERNELS"


@pytest.mark.slow
@pytest.mark.skipif(not BUILT, reason="built without native kernels")
def test_the_best_are_the_default() -> None:
    assert doctor(SIMROOT_KERNELS="").stdout.strip() == f"{available_kernels()[0]}|the best that this processor has"
    assert available_kernels()[-2:] == ["portable", "reference"]


@pytest.mark.skipif(not BUILT, reason="built without native kernels")
def test_arguments_are_those_of_the_header() -> None:
    declared = HEADER.read_text().split("#define SIMROOT_KERNELS(X)")[1].split("\n\n")[0]
    names = re.findall(r"X\((\w+)\)", declared)
    assert len(names) >= 10
    struct = _native.arguments_of("lp_backward")
    assert [field[0] for field in struct._fields_][:9] == ["grad", "x", "z", "u", "dx", "dz", "du", "dbias", "dorder"]
    assert struct.order.offset == ctypes.sizeof(struct) - 8 == 19 * 8
    for name in names:
        assert _native.arguments_of(name)._fields_, name


@pytest.mark.skipif(not BUILT, reason="built without native kernels")
def test_a_kernel_that_was_not_built_is_named() -> None:
    with pytest.raises(LookupError, match=r"the library has no kernel nothing; name it in csrc/simroot\.h, then build"):
        _native.run("nothing", "a test")


def test_types_of_c() -> None:
    kinds = ("const float *", "int64_t", "double", "float", "int", "bool")
    types = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_double, ctypes.c_float, ctypes.c_int, ctypes.c_bool]
    assert list(map(_native._type_of, kinds)) == types


@pytest.mark.skipif(not BUILT, reason="built without native kernels")
def test_arguments_that_are_missing_or_unknown_are_named() -> None:
    with pytest.raises(TypeError, match="lp_limit is given too few or too many arguments: coordinates"):
        _native.run("lp_limit", "a test", repeats=1)
    with pytest.raises(TypeError, match="coordinate, coordinates"):
        _native.run("lp_limit", "a test", repeats=1, coordinate=None)


def test_without_a_library_the_reference_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "_library", lambda: "this installation was built without a C++ compiler")
    with use_kernels("auto") as found:
        assert found == (_native.REFERENCE, "this installation was built without a C++ compiler")
    expected = pytest.raises(ConfigError, match=r"expected auto or one of reference \(this installation was built")
    with expected, use_kernels("avx2"):
        pass


def test_a_library_that_does_not_load_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "ops" / "_native.py"
    broken.parent.mkdir()
    for name in set(_native._NAMES.values()):
        (tmp_path / name).write_bytes(b"not a library")
    monkeypatch.setattr(_native, "__file__", str(broken))
    reason = _native._library.__wrapped__()
    assert isinstance(reason, str)
    assert "cannot be loaded" in reason
