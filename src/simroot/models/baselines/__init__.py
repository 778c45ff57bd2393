"""What SimNets and root networks are compared with: the papers' ConvNets, and others' strongest small networks."""

from simroot.models.baselines import alexnet as alexnet
from simroot.models.baselines import bsconv as bsconv
from simroot.models.baselines import compact as compact
from simroot.models.baselines import convnet as convnet
from simroot.models.baselines import googlenet as googlenet
from simroot.models.baselines import mlperf as mlperf
from simroot.models.baselines import nin as nin
from simroot.models.baselines import resnet as resnet
from simroot.models.baselines import tiniest as tiniest
