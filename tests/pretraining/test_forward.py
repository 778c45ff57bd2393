"""The sweep: filters that whiten, the tempered scale, statistics, offsets, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pretraining.support import generator, network, smooth_images
from simroot.data import from_arrays, loader
from simroot.errors import ConfigError, DataError
from simroot.layers import FoldedNorm2d, WhitenedSimilarity2d
from simroot.models import create_model, deploy
from simroot.models.simnets.architecture import SimNet, Stage
from simroot.pretraining import Method, Report, Scale, classify, initialise
from simroot.pretraining.forward import Sweep
from simroot.pretraining.layers import estimate, layer_at, tempered

DEEP = (Stage(6, 8, 3, pool=math.inf), Stage(4, 6, 3, groups=2, similarity_groups=2))


def initialised(*stages: Stage, **options: Any) -> tuple[SimNet, Report]:
    model = network(*stages)
    return model, initialise(model, smooth_images(), **{"generator": generator(), "patches": 800, **options})


@pytest.mark.parametrize("scale", ["tempered", "likelihood"])
@pytest.mark.parametrize("whitening", ["ica", "pca"])
def test_filters_whiten_the_patches_within_groups(scale: Scale, whitening: Method) -> None:
    model = network(*DEEP).eval()
    sweep = Sweep(smooth_images(), generator=generator(), scale=scale, whitening=whitening, patches=800)
    for index in range(2):
        layer = layer_at(model, index)
        if layer.conv.patches is not None:
            layer.conv.patches.eps = 0.05
        patches = sweep.layer_patches(model, index)
        sweep.layer(model, index, patches)
        with torch.no_grad():
            white = layer.conv(patches).flatten(1).double()
        assert white.mean(0).abs().max() < 1e-4
        for part in white.chunk(layer.conv.groups, 1):
            covariance = part.T.cov()
            assert torch.allclose(covariance.diagonal(), torch.ones(part.shape[1]).double(), atol=1e-3)
            # the first layer's whitening is regularised at the tempered scale, by the share of 0.05 set above
            correlation = float((covariance - torch.eye(len(covariance))).abs().max())
            assert correlation < (0.1 if scale == "tempered" and index == 0 else 1e-3)


def test_the_first_filters_are_orthogonal_where_they_are_learned() -> None:
    model = network(*DEEP).eval()
    sweep = Sweep(smooth_images(), generator=generator(), patches=800)
    patches = sweep.layer_patches(model, 0)
    sweep.layer(model, 0, patches)
    learned = torch.nn.functional.normalize(layer_at(model, 0).conv.weight.detach().flatten(1).double())
    assert torch.allclose(learned @ learned.T, torch.eye(6).double(), atol=1e-4)
    # they span what the leading directions of the patches do
    leading = torch.linalg.eigh(patches.flatten(1).double().T.cov())[1][:, -6:]
    assert (learned @ leading).norm(dim=1) == pytest.approx(torch.ones(6).double(), abs=1e-4)


def test_a_plain_convolution_gets_the_mean_as_its_bias() -> None:
    model, images = network().eval(), smooth_images()
    layer_at(model, 0).conv.norm = None
    sweep = Sweep(images, generator=generator(), scale="likelihood", patches=800)
    patches = sweep.layer_patches(model, 0)
    sweep.layer(model, 0, patches)
    with torch.no_grad():
        white = layer_at(model, 0).conv(patches).flatten(1).double()
    assert white.mean(0).abs().max() < 1e-4
    assert torch.allclose(white.T.cov(), torch.eye(6).double(), atol=1e-3)


@pytest.mark.parametrize("count", [5, 6, 8])
def test_the_tempered_scale(count: int) -> None:
    model = network(Stage(6, count, 3)).eval()
    sweep = Sweep(smooth_images(), generator=generator(), patches=800)
    sweep.layer(model, 0, sweep.layer_patches(model, 0))
    assert sweep.found is not None
    (mixture,) = sweep.found.mixtures
    similarity = layer_at(model, 0).similarity
    assert similarity.weights is not None
    weights = similarity.weights.detach().flatten(1).double()
    drawn = layer_at(network(Stage(6, count, 3)), 0).similarity.weights
    assert drawn is not None
    assert torch.allclose(similarity.weights, drawn, rtol=1e-5)
    templates, _, constants = tempered((mixture,), weights)
    assert constants is None
    # orthogonal, of length 1 on average, and no other orthogonal matrix is nearer to the mixture's directions
    slopes = 2 * weights * templates
    gram = slopes @ slopes.T if count <= 6 else slopes.T @ slopes
    assert torch.allclose(gram, torch.eye(len(gram)).double() * max(count / 6, 1), atol=1e-9)
    directions = mixture.means_ - mixture.weights_ @ mixture.means_
    directions = directions / directions.norm(dim=1, keepdim=True)
    nearest = (slopes - directions).norm()
    for seed in range(20):
        turn = torch.linalg.qr(torch.eye(6) + 0.2 * torch.randn(6, 6, generator=generator(seed)))[0].double()
        assert (slopes @ turn - directions).norm() >= nearest - 1e-9
    assert torch.allclose(similarity.templates.flatten(1).double(), templates, rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_the_images() -> None:
    model, _ = initialised(*DEEP, patches=3000)
    images, norm = smooth_images(), model.norm
    assert isinstance(norm, FoldedNorm2d)
    with torch.no_grad():
        last = model.eval().features(images).movedim(1, -1).flatten(0, -2)
        normalised = norm(model.features(images)).movedim(1, -1).flatten(0, -2)
    spread = last.std(0)
    # some standard errors of 3,000 heavy-tailed samples
    assert ((norm.mean - last.mean(0)) / spread).abs().max() < 0.15
    assert (normalised.std(0) / norm.scale).log().abs().max() < 0.25


def test_the_same_seed_gives_the_same_network() -> None:
    one, two, other = (initialised(*DEEP, generator=generator(seed))[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_nothing_but_the_estimates_changes() -> None:
    model = network(*DEEP)
    model.train()
    offsets, random = model.classifier.offsets.clone(), torch.get_rng_state()
    initialise(model, smooth_images(), generator=generator(), patches=800)
    assert torch.equal(model.classifier.offsets, offsets)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in model.modules())


def test_a_failure_leaves_the_network_and_gradients_as_they_were() -> None:
    model = network(*DEEP).train()
    images = smooth_images()
    with pytest.raises(DataError, match="filters of 3 x 3 receives 2 x 2 pixels") as caught:
        initialise(model, images[:, :, :2, :2], generator=generator(), patches=800)
    assert caught.tb is not None  # the traceback, which holds what was suspended, is still there
    assert torch.is_grad_enabled()
    assert all(module.training for module in model.modules())
    assert model(images).requires_grad


@pytest.mark.parametrize(("scale", "share"), [("tempered", 0.99), ("likelihood", 1 - 1e-9)])
def test_more_filters_than_directions(scale: Scale, share: float) -> None:
    """18 coordinates of a patch, 9 of them constant, and 12 filters; at the tempered scale 99 % of variance counts."""
    images = smooth_images()
    images[:, 1] = 0.5
    model = network(Stage(12, 5, 3)).eval()
    patches = Sweep(images, generator=generator(), patches=800).layer_patches(model, 0)
    variances = torch.linalg.eigvalsh(patches.flatten(1).double().T.cov()).flip(0)
    directions = int((variances.cumsum(0) < share * variances.sum()).sum()) + 1
    report = initialise(model, images, generator=generator(), patches=800, scale=scale)
    filters = report.layers[0].filters.flatten(1)
    assert directions == 9 if scale == "likelihood" else directions < 9
    assert torch.linalg.matrix_rank(filters[:directions]) == directions
    assert torch.linalg.matrix_rank(filters) == directions
    with torch.no_grad():
        assert layer_at(model, 0).conv(patches).flatten(1).std(0) == pytest.approx(torch.ones(12), abs=1e-3)


@pytest.mark.parametrize("scale", ["tempered", "likelihood"])
def test_layers_beyond_those_asked_for_stay_as_they_were_drawn(scale: Scale) -> None:
    model, report = initialised(*DEEP, layers=1, scale=scale)
    drawn, one, two = layer_at(network(*DEEP), 1), layer_at(model, 0), layer_at(model, 1)
    assert len(report.layers) == 1
    assert not torch.equal(one.conv.weight, layer_at(network(*DEEP), 0).conv.weight)
    assert torch.equal(two.conv.weight, drawn.conv.weight)
    assert torch.equal(two.similarity.templates, drawn.similarity.templates)
    patches = Sweep(smooth_images(), generator=generator(7), patches=3000).layer_patches(model, 1)
    with torch.no_grad():
        responses = two.conv.eval()(patches).flatten(1)
    # some standard errors of heavy-tailed samples
    assert responses.mean(0).abs().max() < 0.2
    assert (responses.std(0) - 1).abs().max() < 0.3


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"scale": "huge"}, ConfigError, "scale is 'huge'; expected one of tempered, likelihood"),
        ({"whitening": "zca"}, ConfigError, "expected one of ica, pca"),
        ({"offsets": "none"}, ConfigError, "expected one of keep"),
        ({"patches": 0}, ConfigError, "patches is 0; expected a positive number"),
        ({"layers": 0}, ConfigError, "layers is 0; expected a positive number"),
        ({"patches": 6}, DataError, "6 patches are too few for 6 filters and 5 templates"),
        ({"images": torch.ones(5, 2, 12, 12)}, DataError, "nothing to whiten"),
        ({"images": torch.full((5, 2, 12, 12), torch.nan)}, DataError, "NaN"),
        ({"images": smooth_images()[:, :1]}, DataError, r"images have 1 channel\(s\); this network takes 2"),
        ({"offsets": "labels"}, DataError, "need labels"),
        ({"images": smooth_images()[:2], "offsets": "clusters"}, DataError, "2 images make no 3 clusters"),
    ],
)
def test_what_is_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    images = change.pop("images", smooth_images())
    with pytest.raises(error, match=message):
        initialise(network(), images, **{"generator": generator(), "patches": 200, **change})


@pytest.mark.parametrize("model", [nn.Linear(2, 2), create_model("simnet_mlp", image_size=4), deploy(network())])
def test_networks_without_such_layers_are_refused(model: nn.Module) -> None:
    with pytest.raises(ConfigError, match="cannot be pre-trained"):
        initialise(model, smooth_images(), generator=generator())


@pytest.mark.parametrize(
    ("classes", "source", "error", "message"),
    [
        (2, "label", ConfigError, "offsets come from 'label'; expected clusters or labels"),
        (1, "labels", DataError, "labels are up to 1; the network has 1 class,"),
    ],
)
def test_offsets_from_what_is_not_there(classes: int, source: Any, error: type[Exception], message: str) -> None:
    images, labels = labelled()
    data = from_arrays(torch.cat([images, images[:, :1]], 1), labels, validation=20)
    batches = loader(data.train, 16, mean=data.mean, std=data.std, train=False)
    with pytest.raises(error, match=message):
        classify(SimNet((Stage(6, 8, 3),), classes, 3), batches, source)


def labelled() -> tuple[Tensor, Tensor]:
    """Two kinds of images: stripes across and stripes down, two pixels wide, of random phase and contrast."""
    phase = torch.randint(4, (80, 1, 1), generator=generator())
    light = ((torch.arange(12) + phase) // 2 % 2 - 0.5) * (0.5 + 0.4 * torch.rand(80, 2, 1, generator=generator(2)))
    stripes = (0.5 + light)[..., None].expand(-1, -1, -1, 12).clone()
    labels = torch.arange(80) % 2
    stripes[labels == 1] = stripes[labels == 1].transpose(2, 3)
    return (255 * stripes + torch.rand(stripes.shape, generator=generator(1))).clamp(max=255).byte(), labels


@pytest.mark.parametrize("source", ["labels", "clusters"])
def test_offsets_say_which_template_fires_for_which_class(source: str) -> None:
    images, labels = labelled()
    data = from_arrays(torch.cat([images, images[:, :1]], 1), labels, validation=20)
    batches = loader(data.train, 16, mean=data.mean, std=data.std, train=False)
    torch.manual_seed(0)
    model = SimNet((Stage(6, 8, 3),), 2, 3)
    initialise(model, batches, generator=generator(), patches=800, offsets=source)  # type: ignore[arg-type]
    log_alpha = (model.classifier.offsets * model.classifier.beta).detach()
    assert log_alpha.exp().mean(1) == pytest.approx(torch.ones(2), abs=1e-4)
    pixels, truth = zip(*batches, strict=True)
    with torch.no_grad():
        found = model.eval()(torch.cat(pixels)).argmax(1)
        winners = model.norm(model.features(torch.cat(pixels))).argmax(1)
    right = float((found == torch.cat(truth)).float().mean())
    # Clusters come in any order; the two kinds share no patch with light in it, so the last digits decide nothing.
    assert right > 0.95 if source == "labels" else max(right, 1 - right) > 0.95
    fired = torch.stack([(winners == template).float().mean((1, 2)) for template in range(8)], 1)
    shares = torch.stack([fired[torch.cat(truth) == label].mean(0) for label in (0, 1)])
    if source == "labels":
        clear = (shares[0] - shares[1]).abs() > 0.3 * shares.amax(0)
        assert clear.sum() >= 2
        assert torch.equal((log_alpha[0] > log_alpha[1])[clear], (shares[0] > shares[1])[clear])


@pytest.mark.parametrize(("size", "sharpness"), [(12, 10 / 9), (6, 1.0)])
def test_offsets_tell_all_classes_apart_equally_well(size: int, sharpness: float) -> None:
    labels = torch.arange(60) % 4
    pixels = (40 * smooth_images(size=size) + 128).clamp(0, 255).byte()
    data = from_arrays(torch.cat([pixels, pixels[:, :1]], 1), labels, validation=20)
    batches = loader(data.train, 16, mean=data.mean, std=data.std, train=False)
    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    torch.manual_seed(0)
    model = SimNet((Stage(6, 8, 3),), 4, 3)
    initialise(model, batches, generator=generator(), patches=800, offsets="labels")
    log_alpha = (model.classifier.offsets * model.classifier.beta).detach().double()
    with torch.no_grad():
        winners = model.eval().norm(model.features(images)).argmax(1).flatten(1)
    lift = torch.empty(4, 8, dtype=torch.float64)
    for template in range(8):
        count = [1 + int((winners[labels == each] == template).sum()) for each in range(4)]
        lift[:, template] = torch.tensor(count) / (10 * winners.shape[1] + 8) * 4 / sum(count)
    lift = lift.log()
    lift = lift - lift.mean(0) - lift.mean(1, keepdim=True) + lift.mean()
    # the polar factor L (L^T L)^(-1/2) on the space that L has, of three dimensions
    values, vectors = torch.linalg.eigh(lift.T @ lift)
    expected = lift @ (vectors[:, -3:] / values[-3:].sqrt()) @ vectors[:, -3:].T
    found = log_alpha - log_alpha.mean(1, keepdim=True)
    # offsets are stored in float32
    torch.testing.assert_close(found, expected * (0.6 * sharpness / expected.std()), rtol=0, atol=1e-4)
    assert log_alpha.exp().mean(1) == pytest.approx(torch.ones(4).double(), abs=1e-4)
    assert model.classifier.beta.item() * 2.5 * math.sqrt(8) == pytest.approx(sharpness, rel=1e-5)


def test_offsets_can_be_set_later_from_the_images_that_have_labels() -> None:
    images, labels = labelled()
    data = from_arrays(torch.cat([images, images[:, :1]], 1), labels, validation=20)
    batches = loader(data.train, 16, mean=data.mean, std=data.std, train=False)
    models = []
    for source in ("labels", "keep"):
        torch.manual_seed(0)
        models.append(SimNet((Stage(6, 8, 3),), 2, 3))
        initialise(models[-1], batches, generator=generator(), patches=800, offsets=source)
    at_once, later = models
    assert not torch.equal(at_once.classifier.offsets, later.classifier.offsets)
    classify(later, batches, "labels")
    torch.testing.assert_close(at_once.state_dict(), later.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(("scale", "agreement"), [("tempered", True), ("likelihood", False)])
def test_components_of_the_tempered_scale_tell_patterns_apart_whatever_their_contrast(
    scale: Scale, agreement: bool
) -> None:
    # A pattern of either sign at a contrast that varies much more than chance.
    contrast = torch.randn(4000, 1, generator=generator()).exp()
    sign = torch.arange(4000)[:, None] % 2 * 2 - 1
    noise = torch.randn(4000, 8, generator=generator(2))
    patches = contrast * (noise + 3 * sign * torch.eye(8)[0])
    layer = WhitenedSimilarity2d(8, 8, 2, 1)
    found = estimate(layer, patches.view(4000, 8, 1, 1), "pca", scale, 0)
    white = patches.double() @ found.filters.T - found.centres
    labels = torch.from_numpy(found.mixtures[0].predict((white / white.norm(dim=1, keepdim=True)).numpy()))
    right = float((2 * labels - 1 == sign.flatten()).double().mean())
    assert (max(right, 1 - right) > 0.95) == agreement
