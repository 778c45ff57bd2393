"""Networks: the registry, the SimNets and the papers' convolutional baselines."""

from simroot.models import alexnet as alexnet
from simroot.models import baselines as baselines
from simroot.models import compact as compact
from simroot.models import convnet as convnet
from simroot.models import googlenet as googlenet
from simroot.models import mixed as mixed
from simroot.models import nin as nin
from simroot.models import pyramid as pyramid
from simroot.models import resnet as resnet
from simroot.models import simnet as simnet
from simroot.models.deploy import deploy
from simroot.models.foreign import build_network, load_rootified
from simroot.models.googlenet import AuxiliaryScores
from simroot.models.registry import ModelEntry, create_model, list_models, model_entry, register
from simroot.models.roots import RootReport, root_schedule, rootify, rootify_with_report
from simroot.models.twin import relu_twin

__all__ = [
    "AuxiliaryScores",
    "ModelEntry",
    "RootReport",
    "build_network",
    "create_model",
    "deploy",
    "list_models",
    "load_rootified",
    "model_entry",
    "register",
    "relu_twin",
    "root_schedule",
    "rootify",
    "rootify_with_report",
]
