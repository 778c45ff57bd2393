"""The version of the package, which its metadata and every exported file name."""

__version__ = "0.1.0"
