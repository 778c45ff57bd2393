"""The command line: arguments in, one library call, printing."""

from simroot.cli.main import main

__all__ = ["main"]
