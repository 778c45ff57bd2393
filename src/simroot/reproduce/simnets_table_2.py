"""Deep SimNets, table 2: the three layer SimNet beside ConvNets of its time."""

from __future__ import annotations

from simroot.trials.networks import on_cifar10, registered, table_experiment

NETWORKS = registered("simnet3")

_PRINTED = {
    "simnet3": 92.18,
    "Network in Network": 91.19,
    "Deeply Supervised Nets": 92.03,
    "Highway Network": 92.4,
    "ALL-CNN": 92.75,
}

EXPERIMENT = table_experiment("Deep SimNets, table 2: the three layer SimNet", 10, NETWORKS, on_cifar10(_PRINTED))
