"""The strongest networks of others with a few thousand to a few hundred thousand parameters, to compare ours with."""

from simroot.models.baselines import bsconv as bsconv
from simroot.models.baselines import mlperf as mlperf
from simroot.models.baselines import tiniest as tiniest
