"""Numbers in 28 bits: C brings them back with every bit."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest

from export.c.networks import need_compiler
from simroot.engines.host import WARNINGS, compiler
from simroot.export.web.packed import unpacking

ODD = np.array([0.0, -0.0, 1e-42, -3e38, 1e-20, 1.0, 2.0], dtype=np.float32)


@pytest.mark.parametrize("kind", ["usual", "odd", "large", "small"])
def test_numbers_are_the_same(kind: str, tmp_path: Path) -> None:
    need_compiler()
    usual = np.random.default_rng(0).standard_normal(1001).astype(np.float32)
    scale = {"large": np.float32(1e37), "small": np.float32(1e-37)}.get(kind, np.float32(1))
    numbers = np.concatenate([scale * usual, ODD]) if kind != "usual" else usual
    text = f"#include <stdint.h>\n#include <string.h>\nfloat x_numbers[{len(numbers)}];\nvoid run(void);\n"
    text += f"{unpacking('x', numbers)}\nvoid run(void)\n{{\n    sr_unpack();\n}}\n"
    (tmp_path / "x.c").write_text(text)
    words = [str(compiler()), *WARNINGS, "-O1", "-shared", "-fPIC", "-o", "x.so", "x.c"]
    subprocess.run(words, check=True, cwd=tmp_path)
    library = ctypes.CDLL(str(tmp_path / "x.so"))
    library.run()
    found = np.ctypeslib.as_array((ctypes.c_uint32 * len(numbers)).in_dll(library, "x_numbers"))
    np.testing.assert_array_equal(found, numbers.view(np.uint32))
    if kind == "usual":
        assert text.count(",") < 3.6 * len(numbers)  # a byte each, four for those that stand apart
