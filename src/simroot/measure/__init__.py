"""Measuring networks: parameters, multiply-accumulates, floating-point operations, time, correlation between layers."""

from typing import TYPE_CHECKING

from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.measure.comparison import Comparison, against_first, plot_latencies
    from simroot.measure.correlation import JointMoments, LayerCorrelation, joint_moments, layer_correlation
    from simroot.measure.cost import Cost, LayerCost
    from simroot.measure.counting import count
    from simroot.measure.formulas import register_cost
    from simroot.measure.layer_times import time_layers
    from simroot.measure.timing import (
        ENGINES,
        Candidate,
        Latency,
        MismatchError,
        compare,
        file_input_size,
        latency,
    )

__all__ = [
    "ENGINES",
    "Candidate",
    "Comparison",
    "Cost",
    "JointMoments",
    "Latency",
    "LayerCorrelation",
    "LayerCost",
    "MismatchError",
    "against_first",
    "compare",
    "count",
    "file_input_size",
    "joint_moments",
    "latency",
    "layer_correlation",
    "plot_latencies",
    "register_cost",
    "time_layers",
]

serve(
    __name__,
    comparison=("Comparison", "against_first", "plot_latencies"),
    correlation=("JointMoments", "LayerCorrelation", "joint_moments", "layer_correlation"),
    cost=("Cost", "LayerCost"),
    counting=("count",),
    formulas=("register_cost",),
    timing=("ENGINES", "Candidate", "Latency", "MismatchError", "compare", "file_input_size", "latency"),
    layer_times=("time_layers",),
)
