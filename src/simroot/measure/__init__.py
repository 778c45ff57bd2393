"""Measuring networks: parameters, multiply-accumulates and floating-point operations."""

from simroot.measure.count import Cost, LayerCost, count
from simroot.measure.formulas import register_cost

__all__ = ["Cost", "LayerCost", "count", "register_cost"]
