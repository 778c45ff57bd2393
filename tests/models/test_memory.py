"""What does not fit into memory is refused before it is built."""

from typing import Any

import pytest
import torch
from torch import nn

from simroot.errors import ConfigError
from simroot.models import create_model
from simroot.models.memory import _kept, require_memory


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("simnet2", {"image_size": 200_000}),
        ("nin", {"image_size": 1_000_000}),
        ("simnet2_small", {"channels": [1_000_000, 8]}),
        ("simnet2_small", {"image_size": (100_000, 100_000)}),
    ],
)
def test_one_line_instead_of_a_full_memory(
    name: str, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 2**17)  # 17 GB
    with pytest.raises(ConfigError, match=rf"^{name} of this size, .* takes at least [\d,]+ GB .* has 17 GB: choose"):
        create_model(name, **overrides)


def network() -> nn.Module:
    """Keeps its image and what ReLU gives; what the last convolution gives nobody needs."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.Flatten())


def test_what_is_kept_for_the_backward_pass_is_counted_once() -> None:
    with torch.device("meta"):
        assert _kept(network(), (3, 10, 10)) == 3 * 100 + 4 * 100


def test_a_batch_that_does_not_fit_is_refused_and_a_smaller_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 2**10)  # a megabyte
    require_memory("net", network, (3, 20, 20), batch=90)  # each image keeps 7 numbers a pixel, 11.2 KB
    with pytest.raises(ConfigError, match="net of this size, for images of 20 x 20 pixels in batches of 100, takes"):
        require_memory("net", network, (3, 20, 20), batch=100)
