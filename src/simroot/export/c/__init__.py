"""Networks as C99 for devices without an operating system: one source file, no allocation, memory known beforehand.

``capture`` turns a network into a short list of layers, ``simplify`` folds what can be folded, ``steps`` says which are
computed by rows and ``planner`` where in one arena each result lies, ``emit`` writes the text, ``verify`` tries it on
other processors, ``write`` does all of it.
"""

from typing import TYPE_CHECKING

from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.export.c.report import device_memory
    from simroot.export.c.write import to_c

__all__ = ["device_memory", "to_c"]

serve(__name__, write=("to_c",), report=("device_memory",))
