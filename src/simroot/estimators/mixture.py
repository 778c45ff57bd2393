"""Mixtures of generalised Gaussians: the statistical model behind a SimNet's similarity layer."""

import warnings
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from sklearn.base import BaseEstimator, DensityMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from simroot.borrowed.from_sklearn import Interval, StrOptions, fit_context
from simroot.errors import DataError
from simroot.estimators._arrays import as_rows, like
from simroot.estimators._criteria import Assessment
from simroot.estimators._density import Parameters, log_density, log_joint
from simroot.estimators._start import FIRST_SHAPE, clustered, first_shapes
from simroot.estimators._statistics import Grid, Levels, Moments, Rules, Statistics

# Deviations, relative to the mean, that are no more than rounding.
_ROUNDING = {torch.float32: 1e-7, torch.float64: 1e-14}
# partial_fit's levels reach this share of the first batch's range beyond it, to either side.
_MARGIN = 0.5


class _Units(NamedTuple):
    """Mean and standard deviation of every coordinate: EM runs on samples reduced by them.

    A constant coordinate has a spread of 1. Where shapes are learned EM does not see it, as it would pull the shapes
    of the others towards its own, unless all are constant.
    """

    center: Tensor
    spread: Tensor
    seen: Tensor  # (d,): which coordinates EM sees

    @classmethod
    def of(cls, rows: Tensor, *, learn_shape: bool) -> "_Units":
        center = rows.mean(0, dtype=torch.float64)
        squares = sum(((chunk - center).square().sum(0) for chunk in rows.split(16384)), torch.zeros_like(center))
        spread = (squares / len(rows)).sqrt()
        # What is left of a constant coordinate is rounding.
        constant = spread <= _ROUNDING[rows.dtype] * center.abs()
        seen = ~constant if learn_shape and not bool(constant.all()) else torch.ones_like(constant)
        return cls(center, torch.where(constant, 1.0, spread), seen)

    def reduce(self, rows: Tensor) -> Tensor:
        reduced = (rows - self.center.to(rows)).div_(self.spread.to(rows))
        return reduced if bool(self.seen.all()) else reduced[:, self.seen]

    def restore(self, parameters: Parameters, least_scale: float) -> Parameters:
        means, scales = (
            part.new_empty(len(self.seen), part.shape[1]) for part in (parameters.means, parameters.scales)
        )
        means[self.seen], scales[self.seen] = parameters.means, parameters.scales
        shapes = parameters.shapes
        if len(shapes) > 1:
            shapes = torch.full_like(self.spread, FIRST_SHAPE)[:, None]
            shapes[self.seen] = parameters.shapes
        # Scales that make components of any shape equally dense at what is constant, none less than the least.
        peaks = shapes / torch.special.gammaln(1 / shapes).exp()
        relative = (peaks / peaks.amin(1, keepdim=True)).expand_as(scales)
        means[~self.seen], scales[~self.seen] = 0.0, least_scale * relative[~self.seen]
        means = means * self.spread[:, None] + self.center[:, None]
        return Parameters(parameters.log_weights, means, scales * self.spread[:, None], shapes)

    def apply(self, parameters: Parameters) -> Parameters:
        means = ((parameters.means - self.center[:, None]) / self.spread[:, None])[self.seen]
        scales, shapes = (parameters.scales / self.spread[:, None])[self.seen], parameters.shapes
        return Parameters(parameters.log_weights, means, scales, shapes[self.seen] if len(shapes) > 1 else shapes)

    def log_density(self, bound: float, parameters: Parameters) -> float:
        """Mean log-likelihood in the data's unit, with that of coordinates that EM did not see.

        Args:
            bound: that of the reduced samples.
            parameters: restored ones.
        """
        shapes, scales = (
            part.expand_as(parameters.means)[~self.seen, 0] for part in (parameters.shapes, parameters.scales)
        )
        unseen = shapes.log() - (2 * scales).log() - torch.special.gammaln(1 / shapes)
        return bound - float(self.spread.log().sum()) + float(unseen.sum())


class _Stream(NamedTuple):
    """What partial_fit carries from batch to batch."""

    units: _Units
    grid: Grid | None
    statistics: Tensor
    parameters: Parameters


class _Run(NamedTuple):
    """One EM run."""

    parameters: Parameters
    bounds: list[float]
    converged: bool


class GeneralizedGaussianMixture(DensityMixin, BaseEstimator):
    r"""A mixture of generalised Gaussians with independent coordinates, fitted by EM.

    The density over :math:`\mathbb{R}^d` (Deep SimNets, section 5; after Bazi, Bruzzone and Melgani, Pattern
    Recognition 40, 2007), with a mean and a scale for every component l and coordinate t and one shape:

    .. math:: P(y) = \sum_{l=1}^{n} \lambda_l \prod_{t=1}^{d} \frac{\beta}{2 \alpha_{lt} \Gamma(1/\beta)}
              \exp\left( -\left| \frac{y_t - \mu_{lt}}{\alpha_{lt}} \right|^{\beta} \right) .

    :math:`\log P(y \wedge l) = c_l - \sum_t \alpha_{lt}^{-\beta} |y_t - \mu_{lt}|^\beta`: up to ``log_constants_``
    a component is an l_p similarity with template mu, weights alpha^-beta and order beta. A shape of 2 is a Gaussian
    with :math:`\alpha = \sqrt{2} \sigma`, a shape of 1 a Laplacian.

    With the shape fixed at 2 an iteration is exact. Otherwise each coordinate is first rounded to ``levels`` levels
    (not at all if it has no more distinct values), and EM is exact for the rounded samples: an iteration then costs
    the same whatever the shape. Either way ``lower_bounds_`` never falls. Means are found as weighted means (shape
    2), weighted medians (1), roots of the monotone slope (above 1) or by trying every level (below 1), a learned
    shape by a root search of the profile likelihood within 0.2 to 20.

    Args:
        n_components: number of components n
        shape: a fixed shape, or None to learn it
        shape_per: what has a learned shape of its own: the whole "mixture", each "component" or each "coordinate"
        min_scale: least scale, as a share of the coordinate's standard deviation over all samples; a component that
            is left with a single sample ends there, so raise it if such components are in the way
        levels: levels that a coordinate is rounded to
        tol: EM stops when the mean log-likelihood of a sample (nats) rises by less
        max_iter: most iterations of one start
        n_init: starts, each from its own k-means clustering with k-means++ seeds; the likeliest is kept
        step_decay: kappa in partial_fit's step t^-kappa for batch t, in (0.5, 1]
        random_state: seed or generator of the starts and of `sample`
        verbose: show progress

    Attributes:
        weights_: priors lambda (n,)
        means_: mu (n, d), in the data's unit
        scales_: alpha (n, d), in the data's unit
        shape_: beta: a float, or an array (n,) or (d,) for ``shape_per`` "component" or "coordinate"
        log_constants_: c_l (n,), nats
        converged_: whether the kept start stopped by ``tol``
        n_iter_: its iterations, or the number of batches given to partial_fit
        lower_bound_: mean log-likelihood of a (rounded) sample, nats; in partial_fit that of the last batch before it
            was learned from
        lower_bounds_: the same after every iteration of the kept start
        n_features_in_: d

    Arrays are tensors on the samples' device if the samples were a tensor, NumPy arrays otherwise; methods answer in
    the kind of what they are given. Samples are kept as float32 or float64, as they come; sums over them run in
    float64. A constant coordinate gets ``min_scale`` as its scale and tells the components nothing. Fewer distinct
    samples than components leave components in the same place.

    Raises:
        DataError: samples that are not finite, not two-dimensional or fewer than components.
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - scikit-learn's convention
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "shape": [Interval(Real, 0, None, closed="neither"), None],
        "shape_per": [StrOptions({"mixture", "component", "coordinate"})],
        "min_scale": [Interval(Real, 0, 1, closed="neither")],
        "levels": [Interval(Integral, 16, 32768, closed="both")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "step_decay": [Interval(Real, 0.5, 1, closed="right")],
        "random_state": ["random_state"],
        "verbose": ["boolean"],
    }

    def __init__(
        self,
        n_components: int = 1,
        *,
        shape: float | None = None,
        shape_per: str = "mixture",
        min_scale: float = 0.01,
        levels: int = 512,
        tol: float = 1e-3,
        max_iter: int = 100,
        n_init: int = 1,
        step_decay: float = 0.6,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.shape = shape
        self.shape_per = shape_per
        self.min_scale = min_scale
        self.levels = levels
        self.tol = tol
        self.max_iter = max_iter
        self.n_init = n_init
        self.step_decay = step_decay
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: None = None) -> "GeneralizedGaussianMixture":
        """Fit to all samples ``X`` (samples, d) by EM."""
        rows = self._rows(X, reset=True)
        units = _Units.of(rows, learn_shape=self.shape is None)
        reduced = units.reduce(rows)
        if self.shape == 2:
            encoded: Statistics = Moments(reduced)
        else:
            encoded = Levels(reduced, Grid.of(reduced, self.levels))
        random = check_random_state(self.random_state)
        with Progress(disable=not self.verbose) as progress:
            runs = [self._run(encoded, self._start(reduced, random), progress) for _ in range(self.n_init)]
        best = max(runs, key=lambda run: run.bounds[-1])
        if not best.converged:
            warnings.warn(
                f"EM did not converge in {self.max_iter} iterations; try a larger max_iter or tol, or another start",
                ConvergenceWarning,
                stacklevel=3,
            )
        self.converged_ = best.converged
        self.n_iter_ = len(best.bounds) - 1
        parameters = units.restore(best.parameters, self.min_scale)
        self.lower_bounds_ = [units.log_density(bound, parameters) for bound in best.bounds[1:]]
        self.lower_bound_ = self.lower_bounds_[-1]
        self._publish(parameters, X)
        self._stream: _Stream | None = None
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: None = None) -> "GeneralizedGaussianMixture":
        """One step of stochastic EM (Cappé and Moulines, JRSS B 71, 2009) on a batch ``X`` (samples, d).

        The statistics move towards the batch's by t^-step_decay in the t-th batch, then follows an M-step. The first
        batch should be typical and large: it alone gives the first statistics, the start (unless the mixture was fitted
        before: then its parameters are where the first step starts from) and the levels, which reach half its range
        beyond it; values farther out count as the outermost level.
        """
        stream: _Stream | None = getattr(self, "_stream", None)
        fitted = hasattr(self, "means_")
        rows = self._rows(X, reset=not fitted)
        if stream is None:
            self.n_iter_ = 0
            units = _Units.of(rows, learn_shape=self.shape is None)
            reduced = units.reduce(rows)
            grid = None if self.shape == 2 else Grid.of(reduced, self.levels, margin=_MARGIN)
            random = check_random_state(self.random_state)
            parameters = units.apply(self._parameters()) if fitted else self._start(reduced, random)
        else:
            units, grid, _, parameters = stream
            reduced = units.reduce(rows)
        encoded = Moments(reduced) if grid is None else Levels(reduced, grid)
        found, bound = encoded.expect(parameters)
        self.n_iter_ += 1
        statistics = found if stream is None else stream.statistics.lerp(found, self.n_iter_**-self.step_decay)
        parameters = encoded.maximize(statistics, parameters, self._rules())
        self._stream = _Stream(units, grid, statistics, parameters)
        restored = units.restore(parameters, self.min_scale)
        self.converged_ = False
        self.lower_bound_ = units.log_density(bound, restored)
        self.lower_bounds_ = [*(self.lower_bounds_ if stream else []), self.lower_bound_]
        self._publish(restored, X)
        return self

    def score_samples(self, X: Any) -> Any:
        """log P(sample), nats, of ``X`` (samples, d): (samples,)."""
        rows, parameters = self._ask(X)
        return like(log_density(rows, parameters), X)

    def score(self, X: Any, y: None = None) -> float:
        """Mean log P(sample), nats."""
        rows, parameters = self._ask(X)
        return float(log_density(rows, parameters).mean(dtype=torch.float64))

    def predict_proba(self, X: Any) -> Any:
        """P(component | sample) of ``X`` (samples, d): (samples, n)."""
        return like(torch.cat([block.softmax(1) for block in log_joint(*self._ask(X))]), X)

    def predict(self, X: Any) -> Any:
        """The likeliest component of each sample: (samples,), int64."""
        return like(torch.cat([block.argmax(1) for block in log_joint(*self._ask(X))]), X)

    def sample(self, n_samples: int = 1) -> tuple[Any, Any]:
        """``n_samples`` new samples (n_samples, d) and their components (n_samples,), in the order of components.

        |y - mu| / alpha is the power 1/beta of a gamma variable of shape 1/beta.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise DataError(f"n_samples={n_samples}: at least one sample is needed")
        random = check_random_state(self.random_state)
        weights, means, scales, shapes = (part.cpu().numpy() for part in self._parameters())
        priors = np.exp(weights)
        labels = np.repeat(np.arange(len(priors)), random.multinomial(n_samples, priors / priors.sum()))
        powers = np.broadcast_to(1 / shapes, means.shape).T[labels]
        distances = random.gamma(powers) ** powers * random.choice([-1.0, 1.0], powers.shape)
        samples = means.T[labels] + scales.T[labels] * distances
        if isinstance(self.means_, Tensor):
            return torch.from_numpy(samples).to(self.means_), torch.from_numpy(labels).to(self.means_.device)
        return samples, labels

    def assess(self, X: Any) -> Assessment:
        """Log-likelihood and entropy of the assignment of ``X`` (samples, d) in one pass, and the criteria on them."""
        rows, parameters = self._ask(X)
        likelihood = entropy = 0.0
        for block in log_joint(rows, parameters):
            likelihood += float(block.logsumexp(1).sum(dtype=torch.float64))
            entropy += float(torch.special.entr(block.softmax(1)).sum(dtype=torch.float64))
        return Assessment(len(rows), len(self.weights_), self.n_parameters_, likelihood, entropy)

    def bic(self, X: Any) -> float:
        """Bayesian information criterion on ``X``: -2 log L + parameters log(samples); lower is better."""
        return self.assess(X).bic()

    def aic(self, X: Any) -> float:
        """Akaike's information criterion on ``X``: -2 log L + 2 parameters; lower is better."""
        return self.assess(X).aic()

    def nec(self, X: Any) -> float:
        """Normalised entropy criterion on ``X`` (see `Assessment.nec`), against one component fitted to ``X``."""
        single = self if self.n_components == 1 else clone(self).set_params(n_components=1).fit(X)
        return self.assess(X).nec(single.assess(X).log_likelihood)

    @property
    def n_parameters_(self) -> int:
        """Free parameters: priors, means, scales and learned shapes."""
        check_is_fitted(self)
        components, features = self.means_.shape
        shapes = self._parameters().shapes.numel() if self.shape is None else 0
        return components - 1 + 2 * components * features + shapes

    def _rows(self, X: Any, *, reset: bool) -> Tensor:
        rows = as_rows(self, X, reset=reset)
        if reset and len(rows) < self.n_components:
            raise DataError(
                f"n_samples={len(rows)} is fewer than n_components={self.n_components}: "
                "give more samples or ask for fewer components"
            )
        return rows

    def _ask(self, X: Any) -> tuple[Tensor, Parameters]:
        check_is_fitted(self)
        rows = as_rows(self, X, reset=False)
        parameters = self._parameters()
        return rows, Parameters(*(part.to(rows.device) for part in parameters))

    def _rules(self) -> Rules:
        return Rules(self.shape is None, self.min_scale)

    def _start(self, reduced: Tensor, random: np.random.RandomState) -> Parameters:
        shapes = first_shapes(self.shape, self.shape_per, reduced.shape[1], self.n_components, reduced.device)
        return clustered(reduced, self.n_components, shapes, self.min_scale, random)

    def _run(self, encoded: Statistics, parameters: Parameters, progress: Progress) -> _Run:
        task = progress.add_task("EM", total=self.max_iter)
        statistics, bound = encoded.expect(parameters)
        bounds = [bound]
        for _ in range(self.max_iter):
            parameters = encoded.maximize(statistics, parameters, self._rules())
            statistics, bound = encoded.expect(parameters)
            bounds.append(bound)
            state = f"EM: {bound:.4f} nats, shape {float(parameters.shapes.mean()):.3f}"
            progress.update(task, advance=1, description=state)
            if bound - bounds[-2] < self.tol:
                return _Run(parameters, bounds, True)
        return _Run(parameters, bounds, False)

    def _publish(self, parameters: Parameters, data: Any) -> None:
        self.weights_ = like(parameters.log_weights.exp(), data)
        self.means_ = like(parameters.means.T.contiguous(), data)
        self.scales_ = like(parameters.scales.T.contiguous(), data)
        self.log_constants_ = like(parameters.log_constants(), data)
        single = self.shape is not None or self.shape_per == "mixture"
        self.shape_ = float(parameters.shapes) if single else like(parameters.shapes.flatten(), data)

    def _parameters(self) -> Parameters:
        means, scales = (torch.as_tensor(part).double().T for part in (self.means_, self.scales_))
        shapes = torch.as_tensor(self.shape_, dtype=torch.float64, device=means.device)
        by_coordinate = self.shape is None and self.shape_per == "coordinate"
        weights = torch.as_tensor(self.weights_).double().log()
        return Parameters(weights, means, scales, shapes.view(-1, 1) if by_coordinate else shapes.view(1, -1))
