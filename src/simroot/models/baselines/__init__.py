"""What SimNets and root networks are compared with: the papers' ConvNets, and others' strongest small networks."""

from simroot.models.baselines import alexnet as alexnet
from simroot.models.baselines import bsconv as bsconv
from simroot.models.baselines import convnet as convnet
from simroot.models.baselines import convnet_plain as convnet_plain
from simroot.models.baselines import googlenet as googlenet
from simroot.models.baselines import mlperf as mlperf
from simroot.models.baselines import mobilenet as mobilenet
from simroot.models.baselines import nin as nin
from simroot.models.baselines import resnet as resnet
from simroot.models.baselines import small_resnet as small_resnet
from simroot.models.baselines import tiniest as tiniest
