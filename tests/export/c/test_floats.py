"""C in float32 against PyTorch."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.c.networks import MEAN, NETWORKS, SIDE, STD, compiled, images, installed, made
from simroot.engines.host import WARNINGS, HostProgram, channels_last
from simroot.export import to_c

# Sums in another order, and exp and log by polynomials: 1e-6 of the largest score is usual, a wrong layer is off by
# far more.
TOLERANCE = 1e-5


@pytest.mark.parametrize("case", NETWORKS)
def test_scores_are_the_networks(case: str, programs: dict[str, HostProgram]) -> None:
    inputs = images(pixels=False)
    with torch.inference_mode():
        expected = made(case)(torch.from_numpy(inputs)).numpy()
    found = programs[case].scores(channels_last(inputs))
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert programs[case].selftest() == 0


def test_the_class_is_the_largest_score(programs: dict[str, HostProgram]) -> None:
    program, inputs = programs["mixed"], channels_last(images(pixels=False))
    scores = np.zeros(5, dtype=np.float32)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (inputs, scores)]
    assert program.library.mixed_classify(pointers[0], None, pointers[1]) == program.scores(inputs[:1]).argmax()


def test_an_arena_of_the_callers_own(programs: dict[str, HostProgram]) -> None:
    program, inputs = programs["mixed"], channels_last(images(pixels=False))
    scores, arena = np.zeros(5, dtype=np.float32), np.full(40_000, 77, dtype=np.uint8)
    start = -arena.ctypes.data % 4
    size = int(next(line.split()[-1] for line in header(program).splitlines() if "MIXED_ARENA_BYTES " in line))
    classify = program.library.mixed_classify
    image, result = (array.ctypes.data_as(ctypes.c_void_p) for array in (inputs, scores))
    assert classify(image, ctypes.c_void_p(arena.ctypes.data + start), result) >= 0
    np.testing.assert_array_equal(scores, program.scores(inputs[:1])[0])
    assert (arena[start + size :] == 77).all()
    assert classify(image, ctypes.c_void_p(arena.ctypes.data + start + 2), result) == -1


def header(program: HostProgram) -> str:
    return program.source.with_suffix(".h").read_text()


def test_a_wrong_score_is_found(tmp_path: Path, programs: dict[str, HostProgram]) -> None:
    source = programs["similarities"].source
    text = source.read_text()
    start = text.index("similarities_test_scores[5] = {") + 31
    (tmp_path / "similarities.c").write_text(f"{text[:start]} 1e9F, {text[start:].split(',', 1)[1]}")
    (tmp_path / "similarities.h").write_text(header(programs["similarities"]))
    program = HostProgram(tmp_path / "similarities.c", "similarities", (SIDE, SIDE, 3), 5, np.float32, flags=["-O0"])
    assert program.selftest() == 1


@pytest.mark.parametrize(("name", "flags"), [("clang", ()), ("gcc", ("-DSR_PORTABLE",)), ("gcc", ("-Os",))])
@pytest.mark.parametrize("case", ["everything", "similarities"])
def test_clang_and_c_alone_give_the_same_bits(
    case: str, name: str, flags: tuple[str, ...], tmp_path: Path, programs: dict[str, HostProgram]
) -> None:
    other = compiled(case, tmp_path, with_compiler=installed(name), flags=flags)
    inputs = channels_last(images(pixels=False))
    np.testing.assert_array_equal(other.scores(inputs), programs[case].scores(inputs))


@pytest.mark.parametrize("flags", [[], ["-DSR_PORTABLE"], ["-Os"]])
def test_pixels_of_a_first_layer_that_alone_sees_the_border(flags: list[str], tmp_path: Path) -> None:
    """Without -march=native: where eight pixels do not lie side by side it has loops of its own."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1))
    to_c(nn.Sequential(model, nn.Flatten()), tmp_path / "c", (3, 12, 12), mean=MEAN, std=STD, name="border")
    program, sources = tmp_path / "program", [tmp_path / "c" / name for name in ("border_test.c", "border.c")]
    words: list[str | Path] = [
        installed("gcc"),
        "-std=c99",
        "-O1",
        "-ffp-contract=off",
        *flags,
        "-o",
        program,
        *sources,
        "-lm",
    ]
    subprocess.run(words, check=True)
    subprocess.run([program], check=True, timeout=60)  # it must end


@pytest.mark.slow
@pytest.mark.parametrize("case", NETWORKS)
def test_the_test_program_under_sanitizers(case: str, programs: dict[str, HostProgram], tmp_path: Path) -> None:
    source = programs[case].source
    program = tmp_path / "program"
    options = [*WARNINGS, "-O1", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    test = source.with_name(f"{case}_test.c")
    words = [installed("gcc"), *options, "-ffp-contract=off", "-o", str(program), str(test), str(source), "-lm"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "cannot find" in done.stderr:
        pytest.skip("the sanitizers are not installed")
    assert not done.stderr
    inputs = channels_last(images(pixels=False))
    (tmp_path / "images").write_bytes(inputs.tobytes())
    for arguments in ([], [tmp_path / "images", tmp_path / "scores"]):
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    found = np.fromfile(tmp_path / "scores", dtype=np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(found, programs[case].scores(inputs))
