"""How good a mixture is: likelihood against size, or clearness of the assignment."""

import math
from typing import NamedTuple


class Assessment(NamedTuple):
    """A mixture on a set of samples.

    ``log_likelihood`` and ``entropy`` (of the assignment to components) are sums over the samples, in nats.
    """

    samples: int
    components: int
    parameters: int
    log_likelihood: float
    entropy: float

    def bic(self) -> float:
        """Bayesian information criterion (Schwarz, 1978): -2 log L + parameters log(samples); lower is better."""
        return -2 * self.log_likelihood + self.parameters * math.log(self.samples)

    def aic(self) -> float:
        """Akaike's information criterion (1974): -2 log L + 2 parameters; lower is better."""
        return -2 * self.log_likelihood + 2 * self.parameters

    def nec(self, single: float) -> float:
        r"""Normalised entropy criterion; lower is better.

        :math:`NEC(n) = E(n) / (\log L(n) - \log L(1))` with the entropy E (Celeux and Soromenho, Journal of
        Classification 13, 1996), and NEC(1) = 1 (Biernacki, Celeux and Govaert, Pattern Recognition Letters 20,
        1999). Infinite if n components are no likelier than one.

        Args:
            single: log L(1), the log-likelihood of the same samples with one component
        """
        if self.components == 1:
            return 1.0
        gain = self.log_likelihood - single
        return self.entropy / gain if gain > 0 else math.inf
