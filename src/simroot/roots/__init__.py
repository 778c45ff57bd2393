"""Root architectures (Deep Roots, section 3): schedules of groups, and any network turned into a root network."""

from simroot.roots.regroup import Rootified, RootLayer, RootReport, rootify, rootify_with_report
from simroot.roots.schedules import Topology, require_groups, root_schedule

__all__ = [
    "RootLayer",
    "RootReport",
    "Rootified",
    "Topology",
    "require_groups",
    "root_schedule",
    "rootify",
    "rootify_with_report",
]
