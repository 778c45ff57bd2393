"""How many components a mixture needs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simroot.errors import ConfigError
from simroot.estimators.mixture import GeneralizedGaussianMixture

CRITERIA = ("nec", "bic", "aic")


@dataclass(frozen=True)
class ComponentSelection:
    """The outcome of `select_components`.

    Attributes:
        n_components: the chosen number
        criterion: what it was chosen by
        candidates: the numbers tried, ascending
        curves: for each candidate "nec", "bic", "aic" (lower is better), "log_likelihood" (mean of a sample, nats)
            and "entropy" (of the assignment of all samples, nats)
        fitted: the mixture of ``n_components``
    """

    n_components: int
    criterion: str
    candidates: tuple[int, ...]
    curves: Mapping[str, tuple[float, ...]]
    fitted: GeneralizedGaussianMixture


def select_components(
    data: Any, candidates: Iterable[int], criterion: str = "nec", **options: Any
) -> ComponentSelection:
    """Fit a mixture for each candidate number of components and keep the best by a criterion.

    "nec" is the normalised entropy criterion (`Assessment.nec`), which asks for well separated
    components and counts one component as 1; "bic" and "aic" ask for a likely density. The smaller number wins ties.

    Args:
        data: samples (samples, d), an array or a tensor
        candidates: numbers of components
        criterion: "nec", "bic" or "aic"
        options: of `GeneralizedGaussianMixture`, such as ``shape`` or ``random_state``

    Raises:
        ConfigError: no candidates, one below 1, or an unknown criterion.
        DataError: as the mixture.
    """
    counts = tuple(sorted(set(candidates)))
    if not counts or counts[0] < 1:
        raise ConfigError(f"candidates={counts}: expected at least one number of components, each 1 or more")
    if criterion not in CRITERIA:
        raise ConfigError(f"criterion={criterion!r}: expected one of {', '.join(CRITERIA)}")
    mixtures = {count: GeneralizedGaussianMixture(count, **options).fit(data) for count in counts}
    single = mixtures.get(1) or GeneralizedGaussianMixture(1, **options).fit(data)
    found = [mixture.assess(data) for mixture in mixtures.values()]
    baseline = single.assess(data).log_likelihood
    curves = {
        "nec": tuple(each.nec(baseline) for each in found),
        "bic": tuple(each.bic() for each in found),
        "aic": tuple(each.aic() for each in found),
        "log_likelihood": tuple(each.log_likelihood / each.samples for each in found),
        "entropy": tuple(each.entropy for each in found),
    }
    chosen = min(zip(curves[criterion], counts, strict=True))[1]
    return ComponentSelection(chosen, criterion, counts, curves, mixtures[chosen])
