"""The convolutional networks that Deep SimNets measures itself against (sections 6.2 and 6.3)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from simroot.layers import NormalisedConv2d
from simroot.models.building import ImageSize, dense, require_image_size, require_positive
from simroot.models.registry import register


@register(parameters=11_610, macs=5_884_000)
def convnet_coates(
    num_classes: int = 10,
    in_channels: int = 3,
    *,
    image_size: ImageSize = 32,
    channels: int = 100,
    batch_norm: bool = False,
) -> nn.Module:
    """Single layer ConvNet after Coates et al. (Deep SimNets, section 6.2, figure 2a).

    A 5x5 convolution, ReLU, the maximum of each quadrant and a dense linear classifier. The paper's number of
    channels n is 50, 100, 200, 400, 800, 1600 or 3200. Initialisation: He.

    Overrides:
        image_size: at least 6.
        channels: number of channels n of the convolution.
        batch_norm: normalise the convolution's output while training; it folds away, so the size stays the same.
    """
    height, width = require_image_size("convnet_coates", image_size, smallest=6)
    require_positive("convnet_coates", channels=channels)
    quadrant = (height - 4 + 1) // 2, (width - 4 + 1) // 2
    return nn.Sequential(
        OrderedDict(
            conv=NormalisedConv2d(in_channels, channels, 5, norm=batch_norm),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(quadrant, ceil_mode=True),
            flatten=nn.Flatten(),
            classifier=dense(4 * channels, num_classes),
        )
    )


@register(parameters=145_578, macs=12_354_176, recipe={"learning_rate": 0.04})
def convnet_caffe(
    num_classes: int = 10, in_channels: int = 3, *, image_size: ImageSize = 32, batch_norm: bool = False
) -> nn.Module:
    """Caffe's compact CIFAR-10 ConvNet (Deep SimNets, section 6.3, figure 2c): three 5x5 convolutions.

    Each convolution has ReLU and 3x3 pooling with stride 2 (the first: maximum, then ReLU; the others: ReLU, then
    average), on grids of 32, 16 and 8; two dense layers with a ReLU between map the last 4x4 grid to the class scores.
    Pooling keeps a last, partial window, as Caffe does. Caffe draws the weights with standard deviations from 1e-4 to
    1e-1, with which training takes long to start; here they are He's.

    Overrides:
        image_size: at least 8.
        batch_norm: normalise the convolutions' outputs while training; it folds away, so the size stays the same.
    """
    height, width = require_image_size("convnet_caffe", image_size, smallest=8)
    grid = (height // 8) * (width // 8)
    return nn.Sequential(
        OrderedDict(
            conv1=NormalisedConv2d(in_channels, 32, 5, padding=2, norm=batch_norm),
            pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
            relu1=nn.ReLU(),
            conv2=NormalisedConv2d(32, 32, 5, padding=2, norm=batch_norm),
            relu2=nn.ReLU(),
            pool2=nn.AvgPool2d(3, 2, ceil_mode=True),
            conv3=NormalisedConv2d(32, 64, 5, padding=2, norm=batch_norm),
            relu3=nn.ReLU(),
            pool3=nn.AvgPool2d(3, 2, ceil_mode=True),
            flatten=nn.Flatten(),
            dense=dense(64 * grid, 64),
            relu4=nn.ReLU(),
            classifier=dense(64, num_classes),
        )
    )


@register(parameters=145_578, macs=12_354_176, recipe={"learning_rate": 0.2})
def convnet_caffe_bn(num_classes: int = 10, in_channels: int = 3, *, image_size: ImageSize = 32) -> nn.Module:
    """Caffe's compact CIFAR-10 ConvNet with batch normalisation after its convolutions, which folds away.

    ``convnet_caffe`` with ``batch_norm=True``: a stronger opponent than the paper's, at the same size and cost.
    """
    return convnet_caffe(num_classes, in_channels, image_size=image_size, batch_norm=True)
