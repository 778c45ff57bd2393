"""Deep SimNets, section 6.4: three layers of ten channels, 5K parameters."""

from __future__ import annotations

from simroot.trials.networks import Network, on_cifar10, pretrained, registered, table_experiment

# Beside the paper's two, of which NiN had no batch normalisation, that with it, the SimNet from a pre-trained start,
# the ReLU twin and the SimNet of both forms of similarity that has as many parameters.
_SIMNET, _NIN, _TWIN = registered("simnet3_compact", "nin_compact", "simnet3_compact_twin")
NETWORKS = (
    _SIMNET,
    _NIN,
    pretrained(_SIMNET),
    _TWIN,
    Network("simnet_mixed", "simnet_mixed", {"channels": 8.5, "depth": 1}),
    Network("nin_compact, no normalisation", "nin_compact", {"batch_norm": False}, learning_rate=0.05),
)
_PRINTED = {"simnet3_compact": 76.8, "nin_compact, no normalisation": 72.3}

EXPERIMENT = table_experiment("Deep SimNets, section 6.4: 5K parameters", 10, NETWORKS, on_cifar10(_PRINTED))
