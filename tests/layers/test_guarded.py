"""The guard of narrow 1x1 convolutions that stride: the same function, no crash."""

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from simroot.layers.guarded import Subsampled, guard, unguard


def network() -> nn.Sequential:
    """A convolution that is concerned, and six that are not."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(5, 8, 1, (2, 3)),
        nn.Conv2d(8, 8, 1, 2),
        nn.Conv2d(8, 4, 1, 2, groups=4),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, 2, padding=1),
        nn.Conv2d(4, 4, 1, 2, padding=1),
        nn.Identity(),
    ).double()


def guarded(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module.__dict__.get("forward"), Subsampled)]


def test_the_same_scores_gradients_and_names() -> None:
    plain, model = network(), network()
    guard(model)
    assert guarded(model) == ["0"]
    assert model.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 5, 49, 50, dtype=torch.float64)
    for one in (plain, model):
        one(x).square().sum().backward()
    torch.testing.assert_close(model(x), plain(x), rtol=1e-12, atol=1e-12)  # sums in another order
    for own, expected in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, expected.grad, rtol=1e-11, atol=1e-12)


def test_it_goes_away_and_travels() -> None:
    model = network()
    guard(model)
    x = torch.randn(1, 5, 49, 50, dtype=torch.float64)
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert guarded(again) == ["0"]
        assert again[0].__dict__["forward"].module is again[0]
        assert torch.equal(again(x), model(x))
    unguard(model)
    assert guarded(model) == []


@pytest.mark.slow
def test_a_narrow_network_trains() -> None:
    """In a process of its own, as the fault would end it."""
    script = """if True:
        import tempfile, torch
        from torch import nn
        from simroot.data import from_arrays
        from simroot.models.registry import register
        from simroot.training import recipe, train

        @register(parameters=168, macs=94560)
        def narrow(num_classes=2, in_channels=3, *, image_size=32):
            "A narrow network."
            parts = nn.Conv2d(in_channels, 4, 3), nn.Conv2d(4, 8, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()
            return nn.Sequential(*parts, nn.Linear(8, num_classes))

        data = from_arrays(torch.randint(256, (64, 3, 32, 32)).byte(), torch.arange(64) % 2)
        out = tempfile.mkdtemp() + "/run"
        train("narrow", data, recipe(epochs=4, batch_size=16), out, progress=False, accelerator="cpu")
        """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
