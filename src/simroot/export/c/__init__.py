"""Networks as C99 for devices without an operating system: one source file, no allocation, memory known beforehand.

``capture`` turns a network into a short list of layers, ``simplify`` folds what can be folded, ``planner`` gives each
result a place in one arena, ``emit`` writes the text, ``host`` compiles and runs it here, ``job`` does all of it.
"""

from typing import TYPE_CHECKING

from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.export.c.report import device_memory
    from simroot.export.c.write import to_c

__all__ = ["device_memory", "to_c"]

serve(__name__, write=("to_c",), report=("device_memory",))
