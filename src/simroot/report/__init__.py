"""One page about a run, in one file that opens without a network: what it learned, where it errs, what it costs."""

from typing import TYPE_CHECKING

from simroot.lazy import serve

if TYPE_CHECKING:
    from simroot.report.page import write_report

__all__ = ["write_report"]

serve(__name__, page=("write_report",))
