"""Networks as backbones: feature maps, and what comes before the scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from simroot.errors import ConfigError
from simroot.models import create_model
from simroot.models.features import Features, Pooled
from simroot.models.own import entry


def backbone(name: str, classes: int = 10, **arguments: object) -> tuple[nn.Module, nn.Module]:
    """A network and what is left of the same one."""
    found = []
    for given in ({"num_classes": 10}, {"num_classes": classes, **arguments}):
        torch.manual_seed(0)
        found.append(create_model(name, **given).eval())
    return found[0], found[1]


@pytest.mark.parametrize(
    ("name", "channels", "reduction"),
    [
        ("simnet2_small", [24, 32], [1, 2]),
        ("simnet_mixed", [16, 32, 32], [1, 2, 4]),
        ("simnet_residual", [24, 40, 28], [1, 2, 4]),
        ("resnet20", [16, 32, 64], [1, 2, 4]),
        ("torchvision:squeezenet1_1", [64, 128, 256, 512], [2, 4, 8, 16]),
    ],
)
def test_feature_maps_are_the_networks_own(name: str, channels: list[int], reduction: list[int]) -> None:
    arguments = {"in_channels": 1} if name == "simnet2_small" else {}
    torch.manual_seed(0)
    whole = create_model(name, 1000 if ":" in name else 10, **arguments).eval()
    torch.manual_seed(0)
    features = create_model(name, features_only=True, **arguments).eval()
    assert isinstance(features, Features)
    info = features.feature_info
    assert (info.channels(), info.reduction()) == (channels, reduction)
    expected: list[Tensor] = []
    for module in info.module_name():
        whole.get_submodule(module).register_forward_hook(lambda _, __, result: expected.append(result.clone()))
    size = {"simnet2_small": 8}.get(name, 64 if ":" in name else 32)
    images = torch.randn(2, 1 if arguments else 3, size, size)
    with torch.no_grad():
        whole(images)
        maps = features(images)
    assert [each.shape[1] for each in maps] == channels
    for found, own in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, own)
    # The head is gone, and the rest has the names that it had.
    left = {key.removeprefix("network.") for key in features.state_dict()}
    assert left < set(whole.state_dict())


def test_no_classes_are_the_features_before_the_scores() -> None:
    whole, pooled = backbone("mlperf_resnet8", 0)
    assert isinstance(pooled, Pooled)
    images = torch.randn(2, 3, 32, 32, requires_grad=True)
    features = pooled(images)
    assert features.shape == (2, pooled.num_features) == (2, 64)
    (head,) = [module for module in whole.modules() if isinstance(module, nn.Linear)]
    torch.testing.assert_close(head(features), whole(images))
    features.sum().backward()
    assert images.grad is not None


def test_one_without_maps_has_features() -> None:
    assert create_model("simnet_mlp", 0)(torch.randn(2, 3, 32, 32)).shape == (2, 100)
    with pytest.raises(ConfigError, match=r"simnet_mlp has no feature maps; num_classes=0 gives"):
        create_model("simnet_mlp", features_only=True)


def test_the_training_mode_stays_and_what_is_asked_wrongly_is_said() -> None:
    assert create_model("convnet_plain", 0).training
    with pytest.raises(ConfigError, match="features_only of simnet2 is 1; expected True or False"):
        create_model("simnet2", features_only=1)
    with pytest.raises(ConfigError, match="num_classes of simnet2 is False"):
        create_model("simnet2", False)
    with pytest.raises(ConfigError, match="no override 'chanels'"):
        create_model("simnet2", 0, chanels=3)


def test_networks_that_cannot_be_followed_are_said() -> None:
    class Branches(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.layer = nn.Linear(3 * 32 * 32, num_classes)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(1) if x.sum() > 0 else -x.flatten(1))

    with pytest.raises(ConfigError, match="Branches cannot be followed for its features"):
        create_model(entry(Branches), 0)
    with pytest.raises(ConfigError, match="is a head alone"):
        create_model(entry(lambda num_classes: nn.Conv2d(3, num_classes, 3)), 0)
