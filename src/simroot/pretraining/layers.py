"""From estimators to a conv -> l_p-sim layer: its filters, templates, weights and order (Deep SimNets, section 5)."""

from __future__ import annotations

import math
import warnings
from typing import NamedTuple

import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn

from simroot.errors import ConfigError, DataError
from simroot.estimators import GeneralizedGaussianMixture, Whitening
from simroot.layers import NormalisedConv2d, Similarity2d, WhitenedSimilarity2d
from simroot.layers.norm import PatchWhitening
from simroot.models.simnets.architecture import SimNet
from simroot.pretraining.options import Method, Scale

# Components end no narrower than this share of a coordinate's deviation, so that none settles on a single patch.
LEAST_SCALE = 0.1
EM_TOLERANCE = 1e-2
# Share of the patches whose distance from the mean counts as it is; the others are brought to the farthest of these.
# At the tempered scale components give directions alone: there nearly all patches count by theirs, whatever their
# contrast. Otherwise components would tell strong contrasts from weak ones rather than patterns.
_NEAR = {"likelihood": 0.98, "tempered": 0.1}
# Share of the patches' variance that filters look at: ICA would spend them on single directions of little but noise.
_KEPT = {"likelihood": 1.0, "tempered": 0.99}
# FastICA's cost grows with the samples, its result hardly changes.
_ICA_SAMPLES = 20_000


def require_simnet(model: nn.Module) -> SimNet:
    """The model as a SimNet that has not been folded.

    Raises:
        ConfigError: for anything else.
    """
    if not isinstance(model, SimNet) or isinstance(model.norm, nn.Identity):
        raise ConfigError(
            f"{type(model).__name__} cannot be pre-trained; expected a SimNet with conv -> l_p-sim layers such as "
            "simnet2, not yet folded for deployment"
        )
    return model


def layer_at(model: SimNet, index: int) -> WhitenedSimilarity2d:
    """A SimNet's conv -> l_p-sim layer."""
    layer = model.similarities[index]
    assert isinstance(layer, WhitenedSimilarity2d)
    return layer


class Estimates(NamedTuple):
    """What the estimators say about a layer.

    ``whitenings``: one for each filter group. ``filters``: W of all groups, (out_channels, d) with d the coordinates
    of a group's patch, and ``centres``: W times the mean patch, (out_channels,), both float64. ``mixtures``: of the
    whitened patches, one for each group of the similarity.
    """

    whitenings: tuple[Whitening, ...]
    filters: Tensor
    centres: Tensor
    mixtures: tuple[GeneralizedGaussianMixture, ...]


def estimate(layer: WhitenedSimilarity2d, patches: Tensor, method: Method, scale: Scale, seed: int) -> Estimates:
    """Whiten patches (n, C, k, k) within the convolution's groups and fit the mixture of the whitened patches.

    Where patches vary in fewer directions than a group has filters (more filters than coordinates, or constant
    coordinates; at the tempered scale, directions with the last hundredth of the variance do not count), the filters
    left over are random directions in the whitened space.

    At the tempered scale a first layer that learns its filters in whitened coordinates, ``W = V (S + eps)^(-1/2)``,
    gets the orthogonal V nearest to the whitening's, so that directions of little but noise are not blown up: its
    responses have unit variance, but are not quite uncorrelated.

    Raises:
        DataError: for patches that are all alike, or not more than there are filters or templates.
    """
    conv, similarity = layer.conv, layer.similarity
    filters = conv.out_channels // conv.groups
    if len(patches) <= max(filters, len(similarity.templates) // similarity.groups):
        raise DataError(
            f"{len(patches)} patches are too few for {filters} filters and {len(similarity.templates)} templates; "
            "expected more patches than either"
        )
    rows = [part.flatten(1) for part in patches.chunk(conv.groups, 1)]
    whitenings = tuple(_whitening(part, filters, method, _KEPT[scale], seed) for part in rows)
    blocks = torch.stack([_filters(each, filters, seed) for each in whitenings])
    if scale == "tempered" and conv.patches is not None:
        set_statistics(conv.patches, patches)
        blocks = _regularised(blocks[0], conv.patches, whitenings[0])[None]
    centres = torch.stack([block @ each.mean_ for block, each in zip(blocks, whitenings, strict=True)])
    white = [
        part @ block.T.to(part) - centre.to(part) for part, block, centre in zip(rows, blocks, centres, strict=True)
    ]
    parts = tuple(_drawn_in(part, _NEAR[scale]) for part in torch.cat(white, 1).chunk(similarity.groups, 1))
    mixtures = _mixtures(parts, similarity, seed)
    return Estimates(whitenings, blocks.flatten(0, 1), centres.flatten(), mixtures)


def _whitening(rows: Tensor, filters: int, method: Method, share: float, seed: int) -> Whitening:
    """Whitening to as many directions as there are filters, or fewer if they hold that share of the variance."""
    whitening = Whitening(method=method, ica_samples=_ICA_SAMPLES, random_state=seed).partial_fit(rows)
    shares = whitening.dimension_curve_
    return whitening.set_params(n_components=min(filters, len(shares), int((shares < share).sum()) + 1))


def _filters(whitening: Whitening, filters: int, seed: int) -> Tensor:
    """The whitening matrix, and random directions in the whitened space if more filters are asked for: (filters, d)."""
    with warnings.catch_warnings():
        # A rotation whitens as well before its last digits have settled.
        warnings.simplefilter("ignore", ConvergenceWarning)
        matrix: Tensor = whitening.components_
    generator = torch.Generator().manual_seed(seed)
    more = torch.randn(filters - len(matrix), len(matrix), dtype=matrix.dtype, generator=generator).to(matrix)
    return torch.cat([matrix, nn.functional.normalize(more) @ matrix])


def set_statistics(whitening: PatchWhitening, patches: Tensor) -> None:
    """Make patches (n, C, k, k) all that a layer's whitening knows, for good."""
    whitening.seen.zero_()
    whitening.update(patches)  # a patch is an image of its own size
    whitening.seen.fill_(whitening.batches)


def _regularised(matrix: Tensor, coordinates: PatchWhitening, whitening: Whitening) -> Tensor:
    """Filters that are orthogonal in the coordinates in which they are learned, with responses of unit variance."""
    mixing = whitening.mixing_
    learned = matrix @ mixing @ orthogonal(matrix[: whitening.n_components_])
    filters = learned @ coordinates.matrix.to(learned)
    return filters / (filters @ mixing).norm(dim=1, keepdim=True)


def _mixtures(parts: tuple[Tensor, ...], similarity: Similarity2d, seed: int) -> tuple[GeneralizedGaussianMixture, ...]:
    """The mixture behind each group of templates. A layer has one order: groups agree on the mean of their shapes."""
    components = len(similarity.templates) // similarity.groups
    shape = None if isinstance(similarity.order, Tensor) else float(similarity.order)
    found = tuple(_mixture(part, components, shape, seed) for part in parts)
    if shape is None and len(found) > 1:
        shape = sum(mixture.shape_ for mixture in found) / len(found)
        found = tuple(_mixture(part, components, shape, seed) for part in parts)
    return found


def _mixture(white: Tensor, components: int, shape: float | None, seed: int) -> GeneralizedGaussianMixture:
    mixture = GeneralizedGaussianMixture(
        components, shape=shape, min_scale=LEAST_SCALE, tol=EM_TOLERANCE, random_state=seed
    )
    with warnings.catch_warnings():
        # Whether EM has converged is in the report; a start for training need not be a maximum.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mixture.fit(white)


def _drawn_in(white: Tensor, near: float) -> Tensor:
    """The patches farthest from the mean brought to the distance of a share of ``near`` of them.

    Whitened patches are heavy-tailed: a mixture would spend components on single patches.
    """
    distances = white.norm(dim=1, keepdim=True)
    farthest = distances.sort(0).values[int(near * (len(white) - 1))]
    return white * (farthest / distances.clamp(min=farthest)) if farthest > 0 else white


@torch.no_grad()
def assign(layer: WhitenedSimilarity2d, patches: Tensor, found: Estimates, scale: Scale) -> None:
    """Write estimates into a layer, through whatever it is parametrised by and normalised with.

    In evaluation the convolution's responses are then ``W (x - mean)``, exactly but for rounding. The similarity is
    that of ``likelihood`` or of ``tempered``.

    Args:
        layer: to write into.
        patches: that the estimates are of, (n, C, k, k).
        found: the estimates.
        scale: ``"likelihood"`` or ``"tempered"``.
    """
    _assign_filters(layer.conv, patches, found)
    similarity, mixtures = layer.similarity, found.mixtures
    if isinstance(similarity.order, Tensor):
        similarity.order = torch.as_tensor(mixtures[0].shape_).to(similarity.order)
    if scale == "likelihood":
        templates, weights, constants = likelihood(mixtures)
    else:
        assert similarity.weights is not None
        templates, weights, constants = tempered(mixtures, similarity.weights.flatten(1))
    similarity.weights = weights.view_as(similarity.templates).to(similarity.templates)
    similarity.templates = templates.view_as(similarity.templates).to(similarity.templates)
    if similarity.bias is not None:
        similarity.bias.zero_()
        if constants is not None:
            origin = similarity.shift()
            assert origin is not None
            similarity.bias.copy_(constants.to(origin) - origin)


def _assign_filters(conv: NormalisedConv2d, patches: Tensor, found: Estimates) -> None:
    filters = found.filters
    if conv.patches is not None:
        set_statistics(conv.patches, patches)
        filters = torch.linalg.solve(conv.patches.matrix.double(), filters.T).T
    conv.weight.copy_(filters.view_as(conv.weight))
    assert conv.bias is not None
    if conv.norm is None:
        conv.bias.copy_(-found.centres)
    else:
        conv.bias.zero_()
        conv.norm.mean.copy_(found.centres)
        conv.norm.var.fill_(conv.norm.scale**2 - conv.norm.eps)


@torch.no_grad()
def measure_responses(conv: NormalisedConv2d, patches: Tensor) -> None:
    """Give a convolution that stays as it was drawn the statistics of patches (n, C, k, k)."""
    if conv.patches is not None:
        set_statistics(conv.patches, patches)
    if conv.norm is not None:
        responses = nn.functional.conv2d(patches, conv.filters(), groups=conv.groups).flatten(1)
        conv.norm.mean.copy_(responses.mean(0))
        conv.norm.var.copy_(responses.var(0))


class Similarities(NamedTuple):
    """Templates z and weights u, (n, d), and the additive constants (n,), or None for zeros."""

    templates: Tensor
    weights: Tensor
    constants: Tensor | None


def likelihood(mixtures: tuple[GeneralizedGaussianMixture, ...]) -> Similarities:
    r"""``z = mu``, ``u = alpha^-p`` and ``b_l = c_l``: section 5 as it stands.

    The similarity is then :math:`\log P(y \wedge l)`, the log-density of whitened patch and component, and without the
    constants the same up to one constant a component.
    """
    weights = torch.cat([mixture.scales_**-mixture.shape_ for mixture in mixtures])
    constants = torch.cat([mixture.log_constants_ for mixture in mixtures])
    return Similarities(torch.cat([mixture.means_ for mixture in mixtures]), weights, constants)


def tempered(mixtures: tuple[GeneralizedGaussianMixture, ...], weights: Tensor) -> Similarities:
    r"""The mixture's directions at the size at which a network trains.

    The slopes ``w = 2 u z`` are the directions from the mean of the mixture to the components' means, brought to length
    1 and then to the nearest matrix with orthogonal rows or columns: components are alike, templates should not be.
    The weights stay as they are; those of a new layer are around 1 / (8 sqrt(d)), so that the quadratic part starts
    small, and differ at random from template to template, which training needs more than the mixture's scales.

    Args:
        mixtures: one for each group of templates.
        weights: u > 0, (n, d).
    """
    slopes = torch.cat([_slopes(mixture) for mixture in mixtures])
    return Similarities(slopes / (2 * weights.to(slopes)), weights, None)


def _slopes(mixture: GeneralizedGaussianMixture) -> Tensor:
    directions = nn.functional.normalize(mixture.means_ - mixture.weights_ @ mixture.means_)
    components, size = directions.shape
    return orthogonal(directions) * math.sqrt(max(components / size, 1))


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with orthonormal rows, or columns if there are fewer of them: the polar factor."""
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right
