"""Statistics for evaluation against means over batches, written out in float64."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from simroot.data import loader
from simroot.layers import FoldedNorm2d, FoldedWhitening2d, MultiplicativeNoise, NormalisedConv2d
from simroot.models import create_model
from simroot.training import load_run, train
from simroot.training.statistics import BATCHES, gather_statistics, normalisations
from training.support import QUICK, small_data, training_batches
from training.test_train import rows

# Sums of a few hundred float32 terms against float64.
RTOL, ATOL = 1e-5, 1e-6

# One of every construction with normalisations of its own.
SMALL = (
    "convnet_caffe_bn",
    "convnet_plain",
    "mobilenet_v2_compact",
    "mobilenet_v3_compact",
    "resnet20",
    "simnet1",
    "simnet2_root4",
    "simnet3_compact",
    "simnet_mixed",
    "simnet_mixed_twin",
    "simnet_mobile",
    "simnet_pyramid",
    "simnet_pyramid_twin",
    "simnet_residual",
)


def batches(number: int = 5, channels: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [2 + 3 * torch.randn(6, channels, 7, 5, generator=generator) for _ in range(number)]


def moments(images: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Means over the batches of the mean (C,) and of the covariance (C,C), which divides by their number."""
    means, covariances = [], []
    for batch in images:
        rows = batch.double().permute(0, 2, 3, 1).reshape(-1, batch.shape[1])
        means.append(rows.mean(0))
        covariances.append((rows - rows.mean(0)).T @ (rows - rows.mean(0)) / len(rows))
    return torch.stack(means).mean(0), torch.stack(covariances).mean(0)


def correlation(batch: torch.Tensor) -> torch.Tensor:
    return torch.corrcoef(batch.double().transpose(0, 1).flatten(1))


@pytest.mark.parametrize("kind", [FoldedNorm2d, nn.BatchNorm2d, FoldedWhitening2d])
def test_are_means_over_the_batches(kind: Callable[[int], nn.Module]) -> None:
    images, module = batches(), kind(3)
    for stale in batches(2):
        module.train()(10 * stale)  # forgotten
    module.eval()
    gather_statistics(module, images)
    mean, covariance = moments(images)
    count = images[0].numel() / 3
    unbiased = count / (count - 1) * covariance.diagonal()
    for name, tensor in module.named_buffers():
        if name in ("mean", "running_mean"):
            torch.testing.assert_close(tensor.double(), mean, rtol=RTOL, atol=ATOL)
        elif name in ("var", "running_var"):
            torch.testing.assert_close(tensor.double(), unbiased, rtol=RTOL, atol=ATOL)
        elif name == "correlation":
            expected = torch.stack([correlation(batch) for batch in images]).mean(0)
            torch.testing.assert_close(tensor.double(), expected, rtol=RTOL, atol=1e-4)  # eps in the deviations
    if isinstance(module, FoldedWhitening2d):  # its map belongs to what it has gathered
        covariance = moments([module(batch) for batch in images])[1]
        assert torch.linalg.cond(covariance) < 1.1


def test_a_layer_behind_sees_what_the_gathering_gives_the_one_before() -> None:
    """With the statistics of the batch in front, the ones behind are of normalised activations."""
    network = nn.Sequential(FoldedNorm2d(3), FoldedNorm2d(3))
    gather_statistics(network, batches())
    torch.testing.assert_close(dict(network.named_buffers())["1.mean"], torch.zeros(3), rtol=0, atol=1e-6)
    torch.testing.assert_close(dict(network.named_buffers())["1.var"], torch.ones(3), rtol=0.02, atol=0)


def test_all_else_is_left_as_it_is() -> None:
    convolution, norm = NormalisedConv2d(3, 4, 3, whiten=True), nn.BatchNorm2d(4, momentum=None)
    network = nn.Sequential(convolution, nn.Dropout(0.5), MultiplicativeNoise(0.5), norm)
    network.train()
    network[1].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    generator = torch.get_rng_state()
    gather_statistics(network, batches())
    assert torch.equal(torch.get_rng_state(), generator)  # nothing was drawn
    assert [module.training for module in network] == [True, False, True, True]
    assert convolution.norm is not None
    assert (convolution.norm.momentum, norm.momentum) == (0.1, None)
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"0.norm.mean", "0.norm.var", "3.running_mean", "3.running_var", "3.num_batches_tracked"}


def test_no_batch_changes_nothing_and_an_error_leaves_the_modes() -> None:
    module = FoldedNorm2d(3)
    gather_statistics(module, [])
    assert torch.equal(module.mean, torch.zeros(3))
    with pytest.raises(RuntimeError):
        gather_statistics(module, [torch.zeros(2, 4, 1, 1)])
    assert module.training
    assert module.momentum == 0.1


@pytest.mark.parametrize("name", SMALL)
def test_every_normalisation_of_a_registered_network_is_reached(name: str) -> None:
    """A network that asked for its own mode in place of its normalisation's would keep the running averages."""
    model = create_model(name, 10, 3, image_size=32)
    generator = torch.Generator().manual_seed(0)
    gather_statistics(model, [torch.randn(4, 3, 32, 32, generator=generator)])
    for module in normalisations(model):
        mean = module.mean if isinstance(module, FoldedNorm2d) else module.running_mean
        assert isinstance(mean, Tensor)
        assert mean.abs().max() > 0


@pytest.mark.parametrize("train_images", [48, 320])
def test_validation_and_checkpoint_have_those_of_the_last_weights(out: Path, train_images: int) -> None:
    data = small_data(train_images + 22)
    train("tiny", data, QUICK, out, overrides={"norm": True}, accelerator="cpu", progress=False)
    run = load_run(out, weights="last")
    again = training_batches(data, QUICK)
    again.set_epoch(QUICK.epochs - 1)
    assert isinstance(run.model, nn.Sequential)
    convolution, norm = run.model[0], run.model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    seen = [convolution(images) for images, _ in islice(again, BATCHES)]
    assert len(seen) == min(BATCHES, train_images // QUICK.batch_size)
    torch.testing.assert_close(norm.running_mean.double(), moments(seen)[0], rtol=RTOL, atol=ATOL)
    images = next(iter(loader(data.val, 22, mean=data.mean, std=data.std, train=False)))
    scores = run.model(images[0])
    loss = nn.functional.cross_entropy(scores, images[1]).item()
    assert loss == pytest.approx(rows(out)[-1]["val_loss"], rel=1e-4)
