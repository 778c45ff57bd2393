"""The GPU's kernels without a GPU: in Triton's interpreter, and through its compiler."""

import os
import subprocess
import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch

from simroot.ops import gpu as _triton

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")


@pytest.fixture(autouse=True)
def kernels() -> None:
    """In place of the fixture that repeats every test for each instruction set of the CPU."""


@pytest.mark.slow
@needs_triton
def test_kernels_in_the_interpreter() -> None:
    """`triton_checks.py`, in a process where nothing has imported Triton for a GPU."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "--color=no"]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("triton_checks.py"))],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


COMPILED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "similarity": ("similarity", "_forward_kernel", {"WEIGHTED": True, "BIASED": True, "ROWS": 32, "TEMPLATES": 32}),
    "gradient of images": ("similarity", "_input_kernel", {"WEIGHTED": True, "PIXELS": 32, "CHANNELS": 32}),
    "gradient of templates": (
        "similarity",
        "_parameter_kernel",
        {"LEARNED": True, "TEMPLATES": 32, "COORDINATES": 32, "CHUNK": 64},
    ),
    "mex": ("mex", "_entry_kernel", {"GRADIENTS": False, "LEARNED": False, "ROWS": 32, "OUTPUTS": 16}),
    "gradient of beta": (
        "mex",
        "_entry_kernel",
        {"GRADIENTS": True, "LEARNED": True, "ROWS": 32, "OUTPUTS": 16},
    ),
    "gradient of mex": ("mex", "_gradient_kernel", {"LINES": 32, "OTHERS": 16}),
}


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_kernels_compile_for_a_gpu(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter accepts more than the compiler does, which needs no GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module, function, constants = COMPILED[name]
    kernel = getattr(__import__(f"simroot.ops.{module}.triton", fromlist=[function]), function)
    fields = {"KH": 3, "KW": 3, "SH": 2, "SW": 1, "ORDER": 0}
    constants = (fields if module == "similarity" else {"CHANNELS": 16}) | constants
    numbers = {"fp32": "fp32", "i32": "i32", "tensor": "*fp32", "constexpr": "constexpr"}
    signature = {parameter.name: numbers[parameter.annotation] for parameter in kernel.params}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(key),): value for key, value in constants.items()})
    assert triton.compile(source, target=GPUTarget("cuda", 80, 32)).asm["cubin"]


@needs_triton
@pytest.mark.parametrize("name", ["lp", "lp_backward", "mex_dense", "mex_dense_backward"])
def test_operators_have_an_implementation_for_gpus(name: str) -> None:
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"simroot::{name}", "CUDA")


def test_other_tensors_are_not_served() -> None:
    assert not _triton.has_triton(torch.zeros(2))


@pytest.mark.slow
def test_without_triton_the_operators_import() -> None:
    """As on macOS, Windows and with PyTorch for CPUs only."""
    script = "import sys; sys.modules['triton'] = None; import simroot.ops, simroot.ops.gpu as t; sys.exit(t.INSTALLED)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=environment, check=False).returncode == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_says_that_there_is_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    found: Any = spec_from_file_location("gpu", path)
    module = module_from_spec(found)
    found.loader.exec_module(module)
    assert module.main([]) == 2
    assert capsys.readouterr().err.startswith("no GPU: ")
