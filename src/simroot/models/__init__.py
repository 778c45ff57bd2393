"""Networks: the registry, the SimNets and the papers' convolutional baselines."""

from simroot.models import convnet as convnet
from simroot.models import nin as nin
from simroot.models import simnet as simnet
from simroot.models.deploy import deploy
from simroot.models.registry import ModelEntry, create_model, list_models, model_entry, register
from simroot.models.twin import relu_twin

__all__ = ["ModelEntry", "create_model", "deploy", "list_models", "model_entry", "register", "relu_twin"]
