"""The public names of ``simroot.roots``, under their first address."""

from simroot.roots import Rootified, RootLayer, RootReport, require_groups, root_schedule, rootify, rootify_with_report

__all__ = [
    "RootLayer",
    "RootReport",
    "Rootified",
    "require_groups",
    "root_schedule",
    "rootify",
    "rootify_with_report",
]
