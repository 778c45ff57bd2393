"""Networks: the registry, the SimNets, and what they are compared with."""

import sys

from simroot.layers import Foldable
from simroot.models import baselines as baselines
from simroot.models import deployment
from simroot.models import simnets as simnets
from simroot.models.baselines.googlenet import AuxiliaryScores
from simroot.models.baselines.relu_twin import relu_twin
from simroot.models.deployment import deploy
from simroot.models.naming import build_network, load_rootified
from simroot.models.own import use
from simroot.models.pretrained import list_pretrained
from simroot.models.registry import (
    ModelEntry,
    create_model,
    list_models,
    model_entry,
    name_and_overrides,
    names_network,
    register,
)
from simroot.roots import RootReport, root_schedule, rootify, rootify_with_report

__all__ = [
    "AuxiliaryScores",
    "Foldable",
    "ModelEntry",
    "RootReport",
    "build_network",
    "create_model",
    "deploy",
    "list_models",
    "list_pretrained",
    "load_rootified",
    "model_entry",
    "name_and_overrides",
    "names_network",
    "register",
    "relu_twin",
    "root_schedule",
    "rootify",
    "rootify_with_report",
    "use",
]

# The function's first address was a module of its name.
sys.modules[f"{__name__}.deploy"] = deployment
