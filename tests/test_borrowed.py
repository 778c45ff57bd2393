"""Private interfaces of other packages: each is there, does what it is used for, and is used through one room."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "simroot"
FOREIGN = (
    "torch",
    "sklearn",
    "lightning",
    "onnx",
    "onnxruntime",
    "openvino",
    "torchvision",
    "matplotlib",
    "PIL",
    "scipy",
)
# An operator's name is part of PyTorch's schema, whatever it begins with.
NAMED_ONLY = {"torch.ops"}


def missing(module: str) -> str | None:
    """Why a module of the room cannot be imported."""
    library = module.rpartition("from_")[2]
    try:
        importlib.import_module(module)
    except (ImportError, AttributeError) as error:
        package = "scikit-learn" if library == "sklearn" else library
        return (
            f"{package} {version(package)} no longer has what simroot borrows of it ({error}): "
            f"{module.replace('.', '/')}.py says what it is for; write that there in another way"
        )
    return None


@pytest.mark.parametrize("library", ["torch", "sklearn", "lightning"])
def test_what_is_borrowed_is_there(library: str) -> None:
    assert (reason := missing(f"simroot.borrowed.from_{library}")) is None, reason


@pytest.mark.slow
def test_what_is_gone_is_named() -> None:
    script = (
        "import sys, sklearn.base; del sklearn.base._fit_context; sys.path.insert(0, 'tests')\n"
        "from test_borrowed import missing\nprint(missing('simroot.borrowed.from_sklearn'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PACKAGE.parents[1]
    )
    assert done.stdout.startswith(f"scikit-learn {version('scikit-learn')} no longer has what simroot borrows of it")
    assert "_fit_context" in done.stdout
    assert "simroot/borrowed/from_sklearn.py says what it is for" in done.stdout


def test_forward_mode_is_seen() -> None:
    from simroot.borrowed.from_torch import forward_mode, transforms_active

    seen = []
    torch.func.vmap(lambda x: seen.append(transforms_active()) or x)(torch.ones(2))  # type: ignore[func-returns-value]
    with forward_ad.dual_level():
        assert forward_mode()
    assert not forward_mode()
    assert not transforms_active()
    assert seen == [True]


def test_leaves_and_operators_are_told_apart() -> None:
    from simroot.borrowed.from_torch import OpOverload, TorchDispatchMode, tree_leaves

    class Calls(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            found.append(func)
            return func(*args, **(kwargs or {}))

    found: list[object] = []
    with Calls():  # type: ignore[no-untyped-call]
        torch.ones(2).exp()
    assert torch.ops.aten.exp.default in found
    assert all(isinstance(each, OpOverload) for each in found)
    assert not isinstance(torch.exp, OpOverload)
    assert tree_leaves([1, {"a": (2, 3)}]) == [1, 2, 3]


def test_parameters_are_checked_before_a_fit() -> None:
    from simroot.estimators import Whitening

    with pytest.raises(ValueError, match="n_components"):
        Whitening(n_components="many").fit(np.zeros((3, 2)))


def private(source: str) -> Iterator[str]:
    """Names with a leading underscore that a file takes from other packages."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)] if isinstance(node.value, ast.Name | ast.Attribute) else []
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            hidden = any(part.startswith("_") and not part.startswith("__") for part in rest)
            if first in (*FOREIGN, "forward_ad") and hidden:
                yield name


def test_the_search_sees_every_form() -> None:
    source = (
        "import torch._dynamo.config as c\nfrom sklearn.base import _fit_context, clone\n"
        "torch._C._go()\ntorch.__version__\nself._mine\n"
    )
    assert set(private(source)) == {
        "torch._dynamo.config",
        "sklearn.base._fit_context",
        "torch._C._go",
        "torch._C",
    }


def test_nothing_private_is_used_elsewhere() -> None:
    found = {
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "borrowed"
        for name in private(path.read_text(encoding="utf-8"))
        if ".".join(name.split(".")[:2]) not in NAMED_ONLY
    }
    assert not found
