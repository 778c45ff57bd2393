"""The network as an exported graph holds it: every layer of ``simroot.layers`` in standard operators, constants folded.

Whatever depends on parameters alone is computed here, in float64, so that a file holds numbers and no arithmetic on
them. Values cannot be looked at in a graph: each form is one that is accurate for every input of usual range.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from simroot.export.mex_forms import MexMatrix, pooling_form
from simroot.export.similarity_forms import Lp, LpDifferences, similarity_form, whitened_form
from simroot.layers import GlobalMexPool2d, MexDense, MexPool2d, Similarity2d, WhitenedSimilarity2d
from simroot.models import deploy
from simroot.modules import replace_modules


def graph_form(model: nn.Module, lp: Lp | None = None) -> nn.Module:
    """The deployed network with every similarity and MEX layer in standard operators; outputs as in evaluation.

    Args:
        model: any network; it stays as it is.
        lp: gives the module for a folded similarity of another order than 2; ``LpDifferences`` if None.

    Raises:
        ConfigError: for a layer with an order or beta that is not finite.
    """
    with torch.no_grad():
        form = replace_modules(deploy(model), partial(_form, lp=lp or LpDifferences))
    return form.float().requires_grad_(False)


def _form(module: nn.Module, lp: Lp) -> nn.Module | None:
    if isinstance(module, WhitenedSimilarity2d):
        return whitened_form(module, lp)
    if isinstance(module, Similarity2d):
        return similarity_form(module, lp)
    if isinstance(module, MexDense):
        return MexMatrix(module)
    if isinstance(module, MexPool2d | GlobalMexPool2d):
        return pooling_form(module)
    return None
