r"""The generalised Gaussian mixture's density, in the log domain.

Component l of a mixture over :math:`\mathbb{R}^d` (Deep SimNets, section 5) has the log-density, prior included,

.. math:: \log P(y \wedge l) = c_l - \sum_{t=1}^d \left|\frac{y_t - \mu_{lt}}{\alpha_{lt}}\right|^{\beta}, \qquad
          c_l = \log \lambda_l + \sum_{t=1}^d \log \frac{\beta}{2 \alpha_{lt} \Gamma(1/\beta)} .
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Rows x components worked on at a time: stays in a core's cache with the temporaries.
_BLOCK = 1 << 18


class Parameters(NamedTuple):
    """A mixture of K components over d coordinates, in float64.

    ``log_weights`` (K,), ``means`` and ``scales`` (d, K), ``shapes`` (1 or d, 1 or K).
    """

    log_weights: Tensor
    means: Tensor
    scales: Tensor
    shapes: Tensor

    def log_constants(self) -> Tensor:
        """c_l (K,): what a component's log-density is at its mean, prior included."""
        shapes = self.shapes
        terms = shapes.log() - torch.special.gammaln(1 / shapes) - (2 * self.scales).log()
        return self.log_weights + terms.sum(0)


def log_joint(rows: Tensor, parameters: Parameters) -> Iterator[Tensor]:
    """log P(row and component) of ``rows`` (n, d), as blocks (<= n, K) in the order of the rows."""
    means = parameters.means.to(rows)
    inverse = (1 / parameters.scales).to(rows)
    constants = parameters.log_constants().to(rows)
    shapes = parameters.shapes.to(rows).expand(len(means), -1)
    quick = {value for value in (1.0, 2.0) if bool((parameters.shapes == value).all())}
    for block in rows.split(max(_BLOCK // means.shape[1], 1)):
        distance = torch.zeros(len(block), means.shape[1], dtype=rows.dtype, device=rows.device)
        for values, mean, factor, shape in zip(block.T, means, inverse, shapes, strict=True):
            z = (values[:, None] - mean).mul_(factor).abs_()
            if 2.0 in quick:
                z.square_()
            elif not quick:  # several times faster than pow, and log 0 ends as exp(-inf) = 0
                z.log_().mul_(shape).exp_()
            distance += z
        # A row so far away that its distances overflow is as near to one component as to another.
        yield constants - distance.clamp_(max=torch.finfo(rows.dtype).max / 2)


def log_density(rows: Tensor, parameters: Parameters) -> Tensor:
    """log P(row) of ``rows`` (n, d), shape (n,)."""
    return torch.cat([block.logsumexp(1) for block in log_joint(rows, parameters)])
