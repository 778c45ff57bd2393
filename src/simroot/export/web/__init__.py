"""Networks as WebAssembly: a module made of the C export's text, and a page around it that any web server serves."""

from typing import TYPE_CHECKING

from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.export.web.write import to_wasm, to_web

__all__ = ["to_wasm", "to_web"]

serve(__name__, write=("to_wasm", "to_web"))
