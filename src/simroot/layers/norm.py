"""Normalisations without parameters that fold into their neighbours: they help training and leave no trace after it.

Each computes ``y = A (x - m)`` at every position, with statistics of the activations that it has seen, so a linear
layer before or after it takes it up exactly. The cost counter counts them as free and the networks that hold them fold
them away for deployment (``simroot.models.deploy``).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from simroot.errors import ConfigError
from simroot.layers.grouped import GroupedConv2d

# Of FoldedContrast2d: gains stay below 32, whatever a first batch looks like.
_SMALLEST_SHARE = 1e-3
# Channels from which on the share is the batch's.
_WIDE = 64


class BatchNorm(NamedTuple):
    """What a batch normalisation is made of: arguments of ``F.batch_norm``, in their order."""

    running_mean: Tensor | None
    running_var: Tensor | None
    weight: Tensor | None
    bias: Tensor | None
    training: bool
    momentum: float
    eps: float


class FoldedNorm2d(nn.Module):
    """Batch normalisation without learned scale and offset: ``y_c = scale (x_c - mean_c) / sqrt(var_c + eps)``.

    In training the statistics are the batch's (with gradient), otherwise their running averages.

    Args:
        channels: C of the input (N, C, H, W).
        scale: standard deviation of the output.
        momentum: weight of the newest batch in the running averages.
        eps: added to the variance.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, *, scale: float = 1.0, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels, self.scale, self.momentum, self.eps = channels, scale, momentum, eps
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def gain(self) -> Tensor | None:
        """Deviations of the output, (C,); None for 1."""
        return None if self.scale == 1 else torch.full_like(self.mean, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, self.gain(), None, self.training, self.momentum, self.eps)

    @torch.no_grad()
    def estimate(self, rows: Tensor) -> None:
        """Set the statistics to those of rows (n, C)."""
        self.mean.copy_(rows.mean(0))
        self.var.copy_(rows.var(0))

    @torch.no_grad()
    def affine(self) -> tuple[Tensor, Tensor]:
        """The map in evaluation as a matrix A (C, C) and the mean m (C,): ``y = A (x - m)``, in float64."""
        gain, deviations = self.gain(), (self.var.double() + self.eps).sqrt()
        return torch.diag((1 if gain is None else gain) / deviations), self.mean.double()

    def extra_repr(self) -> str:
        return f"{self.channels}, scale={self.scale:g}, momentum={self.momentum}, eps={self.eps}"


class FoldedContrast2d(FoldedNorm2d):
    """Normalisation by how far channels are apart: ``y_c = scale (x_c - mean_c) / sqrt((var_c + eps) own_c)``.

    own_c is the share of the variance that x_c does not have in common with the mean over the channels, each of
    variance 1. What all inputs of a MEX unit share it passes on to every class alike, where it decides nothing; of the
    similarities of a wide layer it can be nine tenths of the variance, and scaled by all of it they would hardly differ
    in the eyes of the classification. In training the share is the batch's, with gradient, from 64 channels on, as mean
    and deviation are. In narrower layers it is the running average, a constant, so that channels gain by sharing less:
    a narrow layer learns more by it, and a wide one comes apart. It counts as at least 0.001. A single channel has
    nothing to differ from and is normalised by itself.
    """

    own: Tensor

    def __init__(self, channels: int, *, scale: float = 1.0, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(channels, scale=scale, momentum=momentum, eps=eps)
        self.register_buffer("own", torch.ones(channels))

    def gain(self) -> Tensor:
        return self._gain(self.own)

    def _gain(self, own: Tensor) -> Tensor:
        return self.scale * own.clamp_min(_SMALLEST_SHARE).rsqrt()

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not x.numel():
            return super().forward(x)
        y = F.batch_norm(x, self.mean, self.var, None, None, True, self.momentum, self.eps)
        own = _own_share(y.flatten(2).to(self.own.dtype))
        gain = self._gain(own if len(own) >= _WIDE else self.own)
        self.own.lerp_(own.detach(), self.momentum)
        return y * gain.to(y.dtype)[:, None, None]

    @torch.no_grad()
    def estimate(self, rows: Tensor) -> None:
        super().estimate(rows)
        deviations = (rows.var(0, correction=0) + self.eps).sqrt()
        self.own.copy_(_own_share(((rows - rows.mean(0)) / deviations).T[None]))


def _own_share(y: Tensor) -> Tensor:
    """Variances of channels of mean 0 and variance 1, (N, C, positions), less their mean over C; (C,)."""
    channels = y.shape[1]
    if channels == 1:
        return y.new_ones(1)
    with torch.autocast(y.device.type, enabled=False):
        common = y.mean(1)
        covariance = (y @ common[:, :, None]).sum((0, 2)) / common.numel()
        return 1 - 2 * covariance + common.square().mean()


class FoldedWhitening2d(FoldedNorm2d):
    """Decorrelation of the channels: ``y = R^(-1/2) D^(-1) (x - mean)``, with D the deviations and R the correlations.

    Similarities share one large common mode (the norm of what they compare), which a normalisation per channel leaves
    in; the next layer then learns along one direction only. Mean and D are the batch's in training, with gradient: no
    channel gains by growing. R is a running average in training, too, and carries no gradient: a slowly moving
    preconditioner of the next layer's weights.

    Args:
        channels: C of the input.
        groups: groups of channels, each decorrelated on its own, as a grouped convolution behind it can take it up.
        momentum: weight of the newest batch in the running averages.
        eps: added to the eigenvalues of R, whose mean is 1: directions with much less variance are not blown up.
    """

    correlation: Tensor
    matrix: Tensor

    def __init__(self, channels: int, *, groups: int = 1, momentum: float = 0.1, eps: float = 1e-2) -> None:
        super().__init__(channels, momentum=momentum)
        self.groups, self.smallest = groups, eps
        self.register_buffer("correlation", torch.eye(channels))
        self.register_buffer("matrix", torch.eye(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if self.training:
            self._update(y.detach())
        matrix = self.matrix.to(y.dtype, copy=True)  # the next batch changes it, maybe before the gradient needs it
        return F.conv2d(y, matrix[:, :, None, None])

    @torch.no_grad()
    def _update(self, y: Tensor) -> None:
        rows = y.permute(0, 2, 3, 1).reshape(-1, self.channels).to(self.correlation.dtype)
        if not len(rows):
            return
        self.correlation.lerp_(_moments(rows), self.momentum)
        blocks = diagonal_blocks(_factorable(self.correlation), self.groups)
        self.matrix.copy_(torch.block_diag(*(inverse_root(block, self.smallest) for block in blocks)))

    @torch.no_grad()
    def affine(self) -> tuple[Tensor, Tensor]:
        """The map in evaluation as a matrix A (C, C) and the mean m (C,): ``y = A (x - m)``, in float64."""
        scale, mean = super().affine()
        return self.matrix.double() @ scale, mean


class PatchWhitening(nn.Module):
    """Symmetric (ZCA) whitening of k x k patches, to be taken up by filters: ``W = V (S + eps trace(S) / d)^(-1/2)``.

    S is the covariance of the patches, d x d with d = k k C: filters learned as V see patches of equal variance in all
    directions, in place of a few smooth patterns that outweigh the rest (section 4.2). It is estimated on the first
    batches and fixed from then on; the statistics of images do not change while a network learns.

    Args:
        channels: C of the images.
        kernel_size: k.
        eps: share of the mean variance that is added to every direction.
        batches: number of batches that S is averaged over.
    """

    covariance: Tensor
    matrix: Tensor
    seen: Tensor

    def __init__(self, channels: int, kernel_size: int, *, eps: float = 0.5, batches: int = 50) -> None:
        super().__init__()
        self.kernel_size, self.eps, self.batches = kernel_size, eps, batches
        d = channels * kernel_size**2
        self.register_buffer("covariance", torch.zeros(d, d))
        self.register_buffer("matrix", torch.eye(d))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take images (N, C, H, W) into account if fewer than ``batches`` were; patches are cut side by side."""
        if self.seen >= self.batches or not len(x):
            return
        x = x.to(self.covariance.dtype)
        # An image that is smaller than a patch is seen with zeros around it, as the padded convolution sees it.
        missing = max(0, self.kernel_size - min(x.shape[2:]))
        patches = F.unfold(x, self.kernel_size, padding=-(-missing // 2), stride=self.kernel_size)
        patches = patches.transpose(1, 2).flatten(0, 1)
        centred = patches - patches.mean(0)
        self.seen += 1
        self.covariance.lerp_(_moments(centred), 1 / self.seen.to(centred))
        covariance = _factorable(self.covariance)
        smallest = self.eps * covariance.diagonal().mean().clamp_min(1e-12)
        self.matrix.copy_(inverse_root(covariance, smallest))

    def forward(self, weight: Tensor) -> Tensor:
        """The filters W of learned V, (n, C, k, k)."""
        return (weight.flatten(1) @ self.matrix.to(weight.dtype)).view_as(weight)

    def extra_repr(self) -> str:
        return f"{len(self.matrix)}, eps={self.eps}, batches={self.batches}"


def _moments(rows: Tensor) -> Tensor:
    """Mean over the rows of their outer products, (C, C), in the precision of the rows under autocast, too."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows.T @ rows / len(rows)


def diagonal_blocks(matrix: Tensor, number: int) -> Tensor:
    """The blocks on the diagonal of a matrix (C, C), (number, C / number, C / number)."""
    rows = matrix.unflatten(0, (number, -1)).unflatten(2, (number, -1))
    return rows.diagonal(dim1=0, dim2=2).movedim(-1, 0)


def _factorable(covariance: Tensor) -> Tensor:
    """In float64, zeros in place of what has overflowed: that a training has diverged is for its loss to tell."""
    return covariance.double().nan_to_num(0.0, 0.0, 0.0)


def inverse_root(matrix: Tensor, eps: float | Tensor) -> Tensor:
    """``(M + eps I)^(-1/2)`` of a symmetric matrix without negative eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * (values.clamp_min(0) + eps).rsqrt()) @ vectors.T


class NormalisedConv2d(GroupedConv2d):
    """Convolution whose responses are normalised over the batch before the bias: as many parameters as a convolution.

    ``y = (w * x - mean) / sqrt(var + eps) + b``; ``folded`` gives the plain convolution that it is after training.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the filters.
        stride: step between output positions.
        padding: zeros on every side.
        groups: filter groups.
        norm: False for a plain convolution.
        whiten: learn the filters in coordinates in which patches of the input are white; for the first convolution,
            without groups.

    Raises:
        ConfigError: for channels that the groups do not divide, or groups of whitened patches.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        norm: bool = True,
        whiten: bool = False,
    ) -> None:
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or channels % groups:
                raise ConfigError(f"{name} {channels} is not divisible by groups {groups}; choose a divisor of it")
        if whiten and groups > 1:
            raise ConfigError(f"whiten needs a convolution without filter groups; got {groups} groups")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, groups=groups)
        self.norm = FoldedNorm2d(out_channels) if norm else None
        self.patches = PatchWhitening(in_channels, kernel_size) if whiten else None

    def reset_parameters(self) -> None:
        """He's initialisation: filters N(0, 2 / (k k C / groups)), biases 0."""
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is None or self.bias is None:
            return self._conv_forward(x, self.filters_for(x), self.bias)
        y = self.norm(self._conv_forward(x, self.filters_for(x), None))
        return y + self.bias[:, None, None]

    def filters_for(self, x: Tensor) -> Tensor:
        """The filters, which in training take these images into account."""
        if self.patches is not None and self.training:
            self.patches.update(x.detach())
        return self.filters()

    def batch_norm(self) -> BatchNorm | None:
        """What follows the convolution, if that is a batch normalisation."""
        norm = self.norm
        if type(norm) is not FoldedNorm2d or norm.scale != 1:
            return None
        return BatchNorm(norm.mean, norm.var, None, self.bias, norm.training, norm.momentum, norm.eps)

    def filters(self) -> Tensor:
        """The filters that the images meet, (out_channels, in_channels / groups, k, k), before normalisation."""
        return self.weight if self.patches is None else self.patches(self.weight)

    @torch.no_grad()
    def folded(self) -> nn.Conv2d:
        """The plain convolution with the same output in evaluation."""
        convolution = GroupedConv2d if self.groups > 1 else nn.Conv2d
        conv = convolution(
            self.in_channels,
            self.out_channels,
            self.kernel_size,  # type: ignore[arg-type]
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            groups=self.groups,
        ).to(self.weight)
        weight, bias = self.filters().double(), self.bias.double()  # type: ignore[union-attr]
        if self.norm is not None:
            matrix, mean = self.norm.affine()
            scale = matrix.diagonal()
            weight, bias = scale[:, None, None, None] * weight, bias - scale * mean
        conv.weight.copy_(weight)
        conv.bias.copy_(bias)  # type: ignore[union-attr]
        return conv
