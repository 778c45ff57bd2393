"""From a run to C and from a network to its memory, on the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cli.result import Simroot
from export.c.networks import installed, need_compiler


@pytest.mark.slow
def test_c_of_a_run(simroot: Simroot, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_compiler()
    monkeypatch.setenv("COLUMNS", "160")
    result = simroot("export", trained, "--format", "c", "--out", tmp_path / "device", "--images", "50")
    assert result.code == 0
    assert "On a device, float32: arena " in result.out
    files = sorted(file.name for file in (tmp_path / "device").iterdir())
    name = "simnet2_small"
    assert files == ["Makefile", "classes.json", f"{name}.c", f"{name}.c.json", f"{name}.h", f"{name}_test.c"]
    words = [installed("make"), "-C", str(tmp_path / "device"), "test", "CFLAGS=-O1 -std=c99"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "passed: 0 wrong" in done.stdout
    assert simroot("export", trained, "--format", "c", "--out", tmp_path / "device", "--images", "9").code == 0


def test_what_has_no_c_form_is_one_line(simroot: Simroot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    words = ("export", "simnet2_small", "--set", "channels=[3,4]", "--format", "c")
    result = simroot(*words, "--out", "mine")
    assert result.code == 2
    assert "mine exists and is no folder that simroot wrote" in result.err
    result = simroot(*words, "--custom-operator")
    assert result.code == 2
    assert "the custom operator is for ONNX" in result.err
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_memory_of_a_network(simroot: Simroot) -> None:
    result = simroot("cost", "simnet2_small", "--device", "--json")
    device = result.json["device"]
    assert device["macs"] == result.json["macs"] == 176_160
    assert device["arena"] == device["peak"]
    assert device["ram"] == device["arena"] + device["pixels"] + 1024
    assert device["flash"] == sum(layer["flash"] for layer in device["layers"])
    assert 4 * result.json["parameters"] <= device["flash"] <= 4 * result.json["parameters"] + 500
    assert "arena" in simroot("cost", "simnet2_small", "--device").out
