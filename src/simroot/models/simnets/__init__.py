"""The SimNets: those of Deep SimNets by name, and ours for small budgets."""

from simroot.models.simnets import linear_then_lp as linear_then_lp
from simroot.models.simnets import papers as papers
from simroot.models.simnets import pyramid as pyramid
from simroot.models.simnets import residual as residual
