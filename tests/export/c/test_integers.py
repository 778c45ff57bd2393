"""The integer form: its arithmetic, the reference against the network, C against the reference, every bit."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.c.networks import (
    MEAN,
    NETWORKS,
    SIDE,
    STD,
    compiled_integers,
    images,
    in_integers,
    installed,
    made,
    need_compiler,
    networks_with,
)
from simroot.engines.host import WARNINGS, HostProgram, channels_last
from simroot.errors import ConfigError, ExportError
from simroot.export import to_c
from simroot.export.c import whole
from simroot.export.c.integers import EXP2, POWERS, Numbers, WholeLayer, exp2, factors, log2, mean, rescale
from simroot.export.c.report import device_memory
from simroot.export.c.write import ExportedC


@pytest.fixture(scope="module")
def layers() -> dict[str, list[WholeLayer]]:
    return {case: in_integers(case) for case in NETWORKS}


@pytest.fixture(scope="module")
def compiled(layers: dict[str, list[WholeLayer]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, HostProgram]:
    return {case: compiled_integers(case, layers[case], tmp_path_factory.mktemp(case)) for case in NETWORKS}


def pixels(count: int) -> np.ndarray:
    """Noise, and pictures at the ends of what pixels can be."""
    found = channels_last(images(pixels=True, count=count))
    found[0], found[1], found[2, ::2], found[2, 1::2] = 0, 255, 0, 255
    return found


@pytest.mark.parametrize("real", [1.0, 0.37, 2.0**-31, 1e-12, -0.75, 4000.5, 1 - 2.0**-40])
def test_factors(real: float) -> None:
    multiplier, shift = factors(np.array([real]))
    assert 1 <= shift[0] <= 62
    assert abs(multiplier[0]) < 2**31
    assert multiplier[0] * 2.0 ** -float(shift[0]) == pytest.approx(real, rel=1e-9)
    values = np.array([0, 1, -1, 12345, -99999, 2**30])
    found = rescale(values, multiplier, shift, 5, -(2**60), 2**60)
    exact = np.array(
        [(int(value) * int(multiplier[0]) * 2 + (1 << int(shift[0]))) >> (int(shift[0]) + 1) for value in values]
    )
    np.testing.assert_array_equal(found, exact + 5)


def test_a_factor_that_does_not_fit() -> None:
    with pytest.raises(OverflowError, match="too large"):
        factors(np.array([2.0**31]))


def test_rounding_is_half_up_within_limits() -> None:
    values = np.array([-3, -2, -1, 0, 1, 2, 3, 100, -100])
    np.testing.assert_array_equal(rescale(values, 1, 1, 0, -8, 7), [-1, -1, 0, 0, 1, 1, 2, 7, -8])
    np.testing.assert_array_equal(mean(np.array([-3, -1, 1, 3, 5]), np.array([2])), [-1, 0, 1, 2, 3])


def test_powers_as_products() -> None:
    """As AVX-512 has them."""
    steps = np.arange(256)
    products = POWERS[0][steps >> 4] * POWERS[1][steps & 15]
    np.testing.assert_array_equal(products + (1 << 39) >> 40, EXP2[:256])


def test_exponentials_and_logarithms() -> None:
    t = np.arange(0, 21 * 4096, 7)
    assert np.abs(exp2(t) - 2.0**20 * 2.0 ** (-t / 4096)).max() <= 3
    assert (exp2(np.array([21 * 4096, 2**22])) == 0).all()
    values = np.unique(np.r_[np.arange(1, 3000), np.logspace(0, 9.63, 3000).astype(np.int64), 2**32 - 1])
    exact = 4096 * np.log2(values.astype(float))
    assert (log2(values) <= exact + 1e-6).all()
    assert (exact - log2(values)).max() < 1.01


@pytest.mark.parametrize("order", [1.0, 2.0, 0.7, 1.5, 3.0])
@pytest.mark.parametrize("spread", [0.5, 30.0])
def test_a_similarity(order: float, spread: float) -> None:
    """Also where templates are far from what they see, as in trained networks."""
    from simroot.export.c.layers import Lp
    from simroot.export.c.quantise import _lp

    generator = np.random.default_rng(0)
    z, u = spread * generator.standard_normal((4, 1, 1, 9)), generator.random((4, 1, 1, 9)) + 0.1
    read = Numbers(0.02, 7)
    x = generator.integers(-128, 128, (50, 1, 1, 9))
    exact = -(u[:, 0, 0] * np.abs(0.02 * (x[:, 0, 0, None] - 7) - z[:, 0, 0]) ** order).sum(-1) + 3
    own = Numbers(float(np.ptp(exact)) / 30_000, 0, 16)
    layer = Lp("", (0,), (1, 1, 4), templates=z, factors=u, bias=np.full(4, 3 - exact.mean()), order=order)
    found = whole._lp(WholeLayer(layer, own, _lp(layer, own, [read])), [x], [7])
    error = np.abs(own.scale * found[:, 0, 0] - (exact - exact.mean())).max()
    # Templates of an order other than 2 lie on a grid of 1 / 16 of a step, tables are straight between 257 points.
    assert error <= (2e-3 if order == 2 else 0.02 if order >= 1 else 0.04) * np.ptp(exact)


@pytest.mark.parametrize("case", NETWORKS)
def test_the_reference_is_the_network_but_for_rounding(case: str, layers: dict[str, list[WholeLayer]]) -> None:
    inputs = images(pixels=True, count=32)
    normal = (inputs / 255 - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    with torch.inference_mode():
        expected = made(case)(torch.from_numpy(normal).float()).numpy()
    found = whole.scores(layers[case], channels_last(inputs))
    assert np.square(found - expected).mean() <= 0.05**2 * np.square(expected).mean()


@pytest.mark.parametrize("case", NETWORKS)
def test_c_is_the_reference(
    case: str, layers: dict[str, list[WholeLayer]], compiled: dict[str, HostProgram], tmp_path: Path
) -> None:
    inputs = pixels(40)
    expected = whole.scores(layers[case], inputs)
    assert len(np.unique(expected, axis=0)) > 30
    np.testing.assert_array_equal(compiled[case].scores(inputs), expected)
    assert compiled[case].selftest() == 0


@pytest.mark.parametrize("form", ["-DSR_PORTABLE", "-mno-avx2", "-mno-avx512f"])
@pytest.mark.parametrize("case", ["everything", "similarities"])
def test_every_form_of_the_kernels(
    form: str, case: str, layers: dict[str, list[WholeLayer]], compiled: dict[str, HostProgram]
) -> None:
    """The compiled ones are this processor's usual; those of others are tried in emulators."""
    if form.startswith("-m") and platform.machine() != "x86_64":
        pytest.skip("the form is for x86-64")
    source = compiled[case].source
    used = {
        "everything": ("sr_depthwise_int8_wide(&", "sr_sums_dot8(room"),
        "similarities": ("sr_mex_wide(x", "sr_sums_dot16(room"),
    }
    assert all(name in source.read_text() for name in used[case])
    program = HostProgram(source, case, (SIDE, SIDE, 3), 5, np.uint8, flags=["-O1", form])
    inputs = pixels(10)
    np.testing.assert_array_equal(program.scores(inputs), whole.scores(layers[case], inputs))


@pytest.mark.parametrize("case", ["everything", "similarities"])
def test_rows_that_are_read_in_strips_or_not_side_by_side(
    case: str, layers: dict[str, list[WholeLayer]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in large images: the first layer has room for four results' rows, what reads more than that has none."""
    monkeypatch.setattr("simroot.export.c.wide._ROOM", 100)
    program = compiled_integers(case, layers[case], tmp_path)
    inputs = pixels(10)
    np.testing.assert_array_equal(program.scores(inputs), whole.scores(layers[case], inputs))


@pytest.mark.slow
@pytest.mark.parametrize("case", NETWORKS)
@pytest.mark.parametrize(
    ("compiler", "options"),
    [
        ("gcc", ["-O1", "-march=native", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
        ("clang", ["-O2"]),
    ],
)
def test_other_compilers(
    compiler: str,
    options: list[str],
    case: str,
    layers: dict[str, list[WholeLayer]],
    compiled: dict[str, HostProgram],
    tmp_path: Path,
) -> None:
    source, program = compiled[case].source, tmp_path / "program"
    test = source.with_name(f"{case}_test.c")
    words = [installed(compiler), *WARNINGS, *options, "-o", str(program), str(test), str(source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "cannot find" in done.stderr:
        pytest.skip("the sanitizers are not installed")
    assert not done.stderr
    inputs = pixels(10)
    (tmp_path / "images").write_bytes(inputs.tobytes())
    done = subprocess.run(
        [program, tmp_path / "images", tmp_path / "scores"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = np.fromfile(tmp_path / "scores", dtype=np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(found, whole.scores(layers[case], inputs))


@pytest.mark.slow
@pytest.mark.parametrize("case", NETWORKS)
def test_neon(case: str, layers: dict[str, list[WholeLayer]], compiled: dict[str, HostProgram], tmp_path: Path) -> None:
    source, program = compiled[case].source, tmp_path / "program"
    words = [installed("aarch64-linux-gnu-gcc"), "-static", "-O2", *WARNINGS, "-o", str(program)]
    subprocess.run([*words, str(source.with_name(f"{case}_test.c")), str(source)], check=True)
    inputs = pixels(4)
    (tmp_path / "images").write_bytes(inputs.tobytes())
    subprocess.run([installed("qemu-aarch64"), program, tmp_path / "images", tmp_path / "scores"], check=True)
    found = np.fromfile(tmp_path / "scores", dtype=np.float32).reshape(-1, 5)
    np.testing.assert_array_equal(found, whole.scores(layers[case], inputs))


def test_no_float_but_the_scores(compiled: dict[str, HostProgram]) -> None:
    text = compiled["similarities"].source.read_text()
    before, _, after = text.partition("int similarities_classify(")
    assert "float" not in before
    assert "math.h" not in text
    assert "scores[i] = (float)" in after


@pytest.mark.slow
def test_export(tmp_path: Path) -> None:
    need_compiler()
    options = {"mean": MEAN, "std": STD, "name": "mixed", "images": images(pixels=True, count=20)}
    inputs = images(pixels=True, count=64)
    model, size = made("everything"), (3, SIDE, SIDE)
    found = to_c(model, tmp_path / "small", size, calibration=inputs, **options)  # type: ignore[arg-type]
    assert isinstance(found, ExportedC)
    whole_numbers = found.memory
    assert (found.description.precision, whole_numbers.precision) == ("int8", "int8")
    floats = to_c(model, tmp_path / "large", size, **options)  # type: ignore[arg-type]
    assert isinstance(floats, ExportedC)
    # What is planned without images or training is what is written.
    planned = device_memory(model, size, "int8")
    assert (planned.arena, planned.flash) == (whole_numbers.arena, whole_numbers.flash)
    assert whole_numbers.arena < 0.4 * floats.memory.arena
    assert whole_numbers.flash < 0.8 * floats.memory.flash  # tables of two functions of 256 bytes


def test_a_dense_layer_alone_in_16_bits(tmp_path: Path) -> None:
    """GCC knows its size, and that four pixels beside each other would not fit."""
    need_compiler()
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(6, 10))
    inputs = images(pixels=True, count=8)
    found = to_c(model, tmp_path / "out", (3, SIDE, SIDE), calibration=inputs, images=inputs, mean=MEAN, std=STD)
    assert found.images == 8


def test_other_bits_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_compiler()
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    right = whole.scores
    monkeypatch.setattr(whole, "scores", lambda layers, inputs: right(layers, inputs) + np.float32(1e-3))
    inputs = images(pixels=True, count=8)
    with pytest.raises(ExportError, match="the C text and its reference differ"):
        to_c(model, tmp_path / "out", (3, SIDE, SIDE), calibration=inputs, images=inputs, mean=MEAN, std=STD)
    assert not list(tmp_path.iterdir())


def test_what_has_no_integer_form(tmp_path: Path) -> None:
    inputs = images(pixels=False)
    with pytest.raises(ConfigError, match="integers need a network of pixels"):
        to_c(made("mixed"), tmp_path / "out", (3, SIDE, SIDE), calibration=inputs)
    assert not list(tmp_path.iterdir())


class Cut(nn.Module):
    """Results are cut off far below what weights and numbers would give: their factors are large."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 5, 3, groups=5)
        self.last = nn.Linear(5, 5)
        for layer in (self.first, self.second):
            nn.init.uniform_(layer.weight, -40, 40)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.second(F.relu6(self.first(x))))
        return self.last(x.mean((2, 3)))


def test_shifts_that_are_small(tmp_path: Path) -> None:
    with networks_with("cut", Cut):
        layers = in_integers("cut")
        assert [layers[k].constants["shift"].min() <= 33 for k in (1, 2)] == [True, True]
        program = compiled_integers("cut", layers, tmp_path)
        inputs = pixels(10)
        assert "sr_finish_int8_any" in program.source.read_text()
        for flags in (["-O1"], ["-O1", "-DSR_PORTABLE"]):
            found = HostProgram(program.source, "cut", (SIDE, SIDE, 3), 5, np.uint8, flags=flags).scores(inputs)
            np.testing.assert_array_equal(found, whole.scores(layers, inputs))
