"""Deep SimNets, table 1: the two layer SimNet against Caffe's ConvNet."""

from __future__ import annotations

from collections.abc import Mapping

from simroot.data import ImageData
from simroot.trials.networks import Network, pretrained, registered, table_experiment

# Beside the paper's two, the SimNet from a pre-trained start, the opponent with batch normalisation and the ReLU twin.
# Then three SimNets below the opponent's size: one of as many layers and channels as its convolutions, one of as many
# operations whose last layer is wide, from both starts, and the frontier's root SimNet of simnet2's size.
_SIMNET, _CONVNET, *_OTHERS = registered("simnet2", "convnet_caffe_bn", "simnet2_twin", "convnet_caffe")
_DEEPER = Network("simnet3 of 32, 32 and 64 channels", "simnet3", {"channels": [32, 32, 64], "noise": 0.0})
_WIDER = Network("simnet3 of 24, 32 and 160 channels", "simnet3", {"channels": [24, 32, 160], "noise": 0.0})
_ROOT = Network("simnet_mixed, root 4", "simnet_mixed", {"channels": 25.25, "degree": 4})
NETWORKS = (_SIMNET, _CONVNET, pretrained(_SIMNET), _DEEPER, _WIDER, pretrained(_WIDER), _ROOT, *_OTHERS)

_CIFAR10, _CIFAR100, _SVHN = (85.5, 81.1), (54.6, 52.4), (93.8, 94.0)


def _printed(data: ImageData) -> Mapping[str, float]:
    by_data = {"svhn": _SVHN, "cifar100": _CIFAR100, "cifar10": _CIFAR10}
    found = next((pair for name, pair in by_data.items() if data.name.startswith(name)), None)
    return {} if found is None else dict(zip(("simnet2", "convnet_caffe"), found, strict=True))


EXPERIMENT = table_experiment("Deep SimNets, table 1: the two layer SimNet", 10, NETWORKS, _printed)
