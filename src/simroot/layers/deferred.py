"""Normalisations, additions and activations that wait until it is known who reads them.

A convolution that follows does them where it reads; before anything else they are done in one operator. These functions
take the place of the modules' calls in networks that `accelerate` has changed. Wherever no kernel serves, they are
those calls. In evaluation kernels serve root modules and pooling alone, where no gradient is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from simroot import ops
from simroot.layers.norm import BatchNorm, NormalisedConv2d
from simroot.ops import root_module as root
from simroot.ops import window_pool
from simroot.ops.narrow import Moments, Norm, fits_kernel
from simroot.ops.native import serves_images
from simroot.ops.norm import ACTIVATIONS, move_averages
from simroot.ops.pooled_norm import can_be_pooled, pooled_batch_norm


@dataclass(frozen=True)
class Deferred:
    """``f(norm(x) + residual)``, maybe times a gate of its means, that has not been computed yet.

    With moments, their running averages have been.
    """

    x: Tensor
    norm: BatchNorm
    moments: Moments | None
    activation: str = "none"
    residual: Tensor | None = None
    gate: Callable[[Tensor], Tensor] | None = None

    def value(self) -> Tensor:
        """The tensor."""
        mean, var, weight, bias, training, momentum, eps = self.norm
        if self.moments is not None:
            mean = var = None
        y = ops.batch_norm_act(
            self.x, mean, var, weight, bias, training, momentum, eps, activation=self.activation, residual=self.residual
        )
        return y if self.gate is None else y * self.gate(y)

    def for_filters(self) -> Norm | None:
        """What a convolution does to x first, if that is all there is to be done."""
        if self.moments is None or self.residual is not None:
            return None
        return Norm(*self.moments, self.norm.weight, self.norm.bias, self.norm.eps, self.activation)


Value = Tensor | Deferred


def kernels_wanted(training: bool) -> bool:
    """Whether it is training, or evaluation without gradients that nobody looks into."""
    return training or not (torch.is_grad_enabled() or torch.compiler.is_compiling())


def value(x: Value) -> Tensor:
    """The tensor itself."""
    return x.value() if isinstance(x, Deferred) else x


def activate(x: Value, activation: str) -> Value:
    """``f(x)``."""
    return replace(x, activation=activation) if isinstance(x, Deferred) else ACTIVATIONS[activation](x)


def excited(x: Deferred, gate: Callable[[Tensor], Tensor]) -> Value:
    """``x`` times a gate of its means over the pixels, (N, C, 1, 1), which takes images, too."""
    y = x.value() if x.for_filters() is None else None
    return replace(x, gate=gate) if y is None else y * gate(y)


def add(x: Value, residual: Tensor) -> Value:
    """``x + residual``."""
    return replace(x, residual=residual) if isinstance(x, Deferred) else x + residual


def pooled(x: Value, pool: nn.Module, beta: float) -> Tensor:
    """A pooling over windows of 2 x 2 pixels, of their maxima if beta is infinite, or their means if it is 0."""
    if isinstance(x, Deferred) and x.moments is None and x.residual is None and x.gate is None:
        mean, var, weight, bias, _, momentum, eps = x.norm
        if can_be_pooled(x.x, mean, var, weight, bias):
            return pooled_batch_norm(x.x, mean, var, weight, bias, momentum, eps, activation=x.activation, beta=beta)
    images = value(x)
    if kernels_wanted(pool.training) and window_pool.fits_kernel(images):
        return window_pool.window_pool(images, beta)
    y: Tensor = pool(images)
    return y


def convolve(conv: nn.Conv2d, x: Value) -> Tensor:
    """The convolution of a module without bias."""
    if isinstance(x, Tensor) and not (conv.training and _served(x)):
        y: Tensor = conv(x)
        return y
    return _convolved(conv, x, moments=False)[0]


def convolve_and_normalise(conv: nn.Conv2d, norm: nn.BatchNorm2d | None, x: Value, moments: bool) -> Value:
    """A convolution and the batch normalisation behind it, which is its own if ``norm`` is None.

    Args:
        conv: without bias, or a ``NormalisedConv2d``.
        norm: the module that follows.
        x: images.
        moments: whether another convolution reads the result, so that the normalisation can be left to it.
    """
    found = _batch_norm(conv if norm is None else norm)
    tensor = x.x if isinstance(x, Deferred) else x
    if found is None or not found.training or not _served(tensor):
        y = conv(value(x))
        return y if norm is None else _normalised(norm, y)
    _count(norm)
    y, statistics = _convolved(conv, x, moments=moments)
    if statistics is not None:
        move_averages(found.running_mean, found.running_var, *statistics, y.numel() // y.shape[1], found.momentum)
    return Deferred(y, found, statistics)


def root_module(
    spatial: nn.Conv2d, conv: nn.Conv2d, norm: nn.BatchNorm2d | None, x: Value, activation: str, adds: bool
) -> Tensor:
    """Depthwise filters without bias, then a 1x1 convolution, its normalisation and activation; maybe x is added.

    Args:
        spatial: the depthwise filters.
        conv: what reads them, as for ``convolve_and_normalise``.
        norm: the same.
        x: images.
        activation: by its name.
        adds: whether the images are added to the result.
    """
    found, images = _batch_norm(conv if norm is None else norm), value(x)
    vectors = () if found is None else found[:4]
    if (
        found is None
        or not kernels_wanted(found.training)
        or not _served(images)
        or not root.fits_kernel(images, spatial.weight, conv.weight, *vectors)
    ):
        y = value(activate(convolve_and_normalise(conv, norm, convolve(spatial, images), False), activation))
        return images + y if adds else y
    _count(norm)
    filters = conv.filters_for(images) if isinstance(conv, NormalisedConv2d) else conv.weight
    return root.root_module(images, spatial.weight, filters, *found, activation=activation, adds=adds)


def normalise(norm: nn.BatchNorm2d, x: Tensor) -> Value:
    """A batch normalisation by itself."""
    found = _batch_norm(norm)
    if found is None or not found.training or not _served(x):
        return _normalised(norm, x)
    _count(norm)
    return Deferred(x, found, None)


def _normalised(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """By the module itself, but without an activation that it has of its own."""
    y: Tensor = norm(x) if type(norm) is nn.BatchNorm2d else nn.BatchNorm2d.forward(norm, x)
    return y


def _convolved(conv: nn.Conv2d, x: Value, *, moments: bool) -> tuple[Tensor, Moments | None]:
    tensor, norm = (x.x, x.for_filters()) if isinstance(x, Deferred) else (x, None)
    stride, padding, groups = int(conv.stride[0]), int(conv.padding[0]), conv.groups
    # By itself a 1x1 or a small depthwise convolution is PyTorch's.
    worth = norm is not None or moments or conv.kernel_size[0] > 3
    if not worth or not fits_kernel(tensor, conv.weight, stride, padding, groups):
        images = value(x)
        filters = conv.filters_for(images) if isinstance(conv, NormalisedConv2d) else conv.weight
        return conv._conv_forward(images, filters, None), None
    if isinstance(x, Deferred) and norm is None:
        tensor = x.value()
    filters = conv.filters_for(tensor) if isinstance(conv, NormalisedConv2d) else conv.weight
    if norm is not None and isinstance(x, Deferred) and x.gate is not None:
        return ops.excited_conv2d(tensor, filters, x.gate, norm=norm, moments=moments)
    return ops.narrow_conv2d(tensor, filters, stride, padding, groups, norm=norm, moments=moments)


def _served(x: Tensor) -> bool:
    """Whether kernels serve these images; under modes and hooks that watch a network, its modules are called."""
    return serves_images(x) and x.numel() > x.shape[1]


def _batch_norm(module: Any) -> BatchNorm | None:
    if isinstance(module, NormalisedConv2d):
        return module.batch_norm()
    momentum = module.momentum
    if momentum is None:  # the average of all batches, this one counted
        momentum = 0.0 if module.num_batches_tracked is None else 1 / (float(module.num_batches_tracked) + 1)
    mean, var = module.running_mean, module.running_var
    return BatchNorm(mean, var, module.weight, module.bias, module.training or mean is None, momentum, module.eps)


def _count(norm: nn.BatchNorm2d | None) -> None:
    if norm is not None and norm.training and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
