"""Networks of other libraries by name."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from simroot.errors import ConfigError
from simroot.measure import count
from simroot.models import build_network, create_model, model_entry, name_and_overrides, names_network


def test_nothing_is_downloaded_for_a_part_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")

    def download(*args: Any, **kwargs: Any) -> None:
        pytest.fail("weights are downloaded")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    network = build_network("torchvision:lraspp_mobilenet_v3_large", {"num_classes": 4})
    with torch.no_grad():
        assert network.eval()(torch.zeros(1, 3, 32, 32))["out"].shape == (1, 4, 32, 32)


def test_names_of_other_libraries_go_where_names_of_ours_go() -> None:
    pytest.importorskip("torchvision")
    assert names_network("torchvision:resnet18")
    assert not names_network("a directory")
    assert name_and_overrides("torchvision:resnet18:zero_init_residual=true") == (
        "torchvision:resnet18",
        ["zero_init_residual=true"],
    )
    assert name_and_overrides("simnet2:order=1") == ("simnet2", ["order=1"])
    entry = model_entry("torchvision:mobilenet_v3_small")
    assert (entry.num_classes, entry.input_size) == (1000, (3, 224, 224))
    network = create_model("torchvision:mobilenet_v3_small", 7, width_mult=0.5)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    with pytest.raises(ConfigError, match=r"takes images of 3 channels; received 1"):
        create_model("torchvision:mobilenet_v3_small", 7, 1)
    with pytest.raises(ConfigError, match=r"torchvision cannot build 'nonsense': Unknown model nonsense"):
        create_model("torchvision:nonsense")


def test_a_library_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"timm:x needs a library that is not installed: .*timm"):
        create_model("timm:x")


def test_every_network_takes_filter_groups_by_layer() -> None:
    plain, rooted = (create_model("nin_compact", rootified=groups) for groups in (None, {"conv2a": 2}))
    assert rooted.get_submodule("conv2a").groups == 2
    assert count(rooted, (3, 32, 32)).macs < count(plain, (3, 32, 32)).macs
    with pytest.raises(ConfigError, match="conv9"):
        create_model("nin_compact", rootified={"conv9": 2})
