"""The checkout as torch.hub takes it."""

import runpy
from pathlib import Path

import pytest
import torch

from simroot import list_models

ROOT = Path(__file__).resolve().parents[1]


def test_networks_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    network = torch.hub.load(str(ROOT), "nin_compact", source="local", num_classes=7)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    with pytest.raises(RuntimeError, match="Cannot find callable nothing"):
        torch.hub.load(str(ROOT), "nothing", source="local")


def test_it_lists_every_network_and_nothing_else() -> None:
    found = runpy.run_path(str(ROOT / "hubconf.py"))
    public = {name: value for name, value in found.items() if callable(value) and not name.startswith("_")}
    assert set(public) == set(list_models())
    assert public["nin_compact"].__doc__ == "nin_compact of simroot; see simroot.create_model."
