"""Networks of other libraries by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from simroot.models import build_network


def test_nothing_is_downloaded_for_a_part_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")

    def download(*args: Any, **kwargs: Any) -> None:
        pytest.fail("weights are downloaded")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    network = build_network("torchvision:lraspp_mobilenet_v3_large", {"num_classes": 4})
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 32, 32))["out"].shape == (1, 4, 32, 32)
