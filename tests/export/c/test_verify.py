"""Other processors in emulators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.c.networks import (
    MEAN,
    SIDE,
    STD,
    compiled_integers,
    images,
    in_integers,
    installed,
    need_compiler,
    networks_with,
)
from simroot.engines.host import HostProgram, channels_last
from simroot.errors import ConfigError, ExportError
from simroot.export import to_c
from simroot.export.c import whole
from simroot.export.c.stack import ALLOWANCE, deepest, stack_bytes
from simroot.export.c.verify import TARGETS, verify
from simroot.export.c.write import ExportedC
from simroot.layers import MexPool2d


def need(target: str) -> None:
    installed(TARGETS[target].compiler)
    installed(TARGETS[target].emulator[0])


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> HostProgram:
    return compiled_integers("mixed", in_integers("mixed"), tmp_path_factory.mktemp("mixed"))


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_the_same_bits(target: str, program: HostProgram) -> None:
    need(target)
    inputs = channels_last(images(pixels=True, count=2))
    expected = whole.scores(in_integers("mixed"), inputs)
    found = verify(target, program.source.parent, "mixed", inputs, expected, 2500)
    assert found.images == 2
    assert 50_000 < found.instructions < 5_000_000
    assert 1_000 < found.code < 30_000
    told = stack_bytes(program.source, "mixed", target)
    assert told is not None
    assert found.stack <= told <= found.stack + 64  # not every word of a frame is written to
    expected[1, 2] = np.nextafter(expected[1, 2], np.float32(1e9))
    with pytest.raises(ExportError, match=f"on {target} 1 of 2 images give other bits"):
        verify(target, program.source.parent, "mixed", inputs, expected, 2500)


class Extremes(nn.Module):
    """Poolings of as many channels as fill no processor's lanes, behind windows and filters of odd numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 21, 3, padding=1), nn.Conv2d(21, 21, 3, padding=1, groups=21)
        self.smallest, self.last = MexPool2d(2, 1, beta=float("-inf")), nn.Linear(21, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.first(x), 3, 2, 1)
        return self.last(self.smallest(self.second(x)).mean((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["everything", "similarities", "extremes"])
def test_every_kernel_on_processors_with_forms_of_their_own(case: str, tmp_path: Path) -> None:
    with networks_with("extremes", Extremes):
        layers = in_integers(case)
        program = compiled_integers(case, layers, tmp_path)
    inputs = channels_last(images(pixels=True, count=4))
    expected = whole.scores(layers, inputs)
    np.testing.assert_array_equal(program.scores(inputs), expected)
    assert case != "extremes" or "sr_pool_min_int8_lanes(g," in program.source.read_text()
    for target in ("cortex-m4", "cortex-m55"):
        need(target)
        assert verify(target, tmp_path, case, inputs, expected, 0).images == 4


def test_float_on_an_emulator(tmp_path: Path) -> None:
    need("cortex-m4")
    need_compiler()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1))
    options = {"mean": MEAN, "std": STD, "name": "floats", "images": images(pixels=True, count=3)}
    found = to_c(model, tmp_path / "out", (3, SIDE, SIDE), verify=["cortex-m4"], **options)  # type: ignore[arg-type]
    assert isinstance(found, ExportedC)
    assert [(one.target, one.images, one.skipped) for one in found.verified] == [("cortex-m4", 3, "")]


def test_without_its_tools_a_target_is_skipped_with_a_word(
    program: HostProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    inputs = channels_last(images(pixels=True, count=1))
    found = verify("cortex-m4", program.source.parent, "mixed", inputs, np.zeros((1, 5), np.float32), 0)
    assert found.skipped == "arm-none-eabi-gcc is not installed"
    assert found.images == 0


def test_an_unknown_target(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown target 'z80' to verify on; known are cortex-m4"):
        to_c(nn.Flatten(1), tmp_path / "out", (3, 1, 1), verify=["z80"])
    assert not list(tmp_path.iterdir())


def test_the_stack_is_that_of_the_deepest_calls() -> None:
    frames = {"a_classify": 100, "x.c:conv": 40, "x.c:sums": 8, "x.c:pool": 60, "x.c:prepare": 999}
    calls = [("a_classify", "x.c:conv"), ("x.c:conv", "x.c:sums"), ("a_classify", "x.c:pool"), ("x.c:pool", "memcpy")]
    graph = [
        f'node: {{ title: "{name}" label: "f\\nx.c:1:2\\n{size} bytes (static)" }}' for name, size in frames.items()
    ]
    graph += [f'edge: {{ sourcename: "{a}" targetname: "{b}" label: "x.c:3:4" }}' for a, b in calls]
    assert deepest("\n".join(graph), "a_classify") == 176
    assert deepest("\n".join(graph), "b_classify") is None


@pytest.mark.parametrize("case", ["everything", "similarities", "mixed"])
def test_budgets_leave_enough_for_the_stack(case: str, programs: dict[str, HostProgram]) -> None:
    installed("arm-none-eabi-gcc")
    found = stack_bytes(programs[case].source, case)
    assert found is not None
    assert 100 < found <= ALLOWANCE


def test_without_a_compiler_the_stack_is_not_told(program: HostProgram, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert stack_bytes(program.source, "mixed") is None
