"""Engines: what runs networks, from files or PyTorch's own. One protocol, one table, one file for each of them.

Files run without PyTorch.
"""

from simroot.engines.operators import operators_library
from simroot.engines.protocol import Engine, Loaded, library
from simroot.engines.table import (
    ENGINES,
    file_input_size,
    find_engine,
    is_network_file,
    load_file,
    open_file,
    readers,
    told,
)

__all__ = [
    "ENGINES",
    "Engine",
    "Loaded",
    "file_input_size",
    "find_engine",
    "is_network_file",
    "library",
    "load_file",
    "open_file",
    "operators_library",
    "readers",
    "told",
]
