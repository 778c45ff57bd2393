"""Errors that a user can cause: one clear line, no traceback on the command line.

Every message says what was received, what was expected and what to do.
"""


class SimrootError(ValueError):
    """Base of all errors that simroot raises on purpose."""


class ConfigError(SimrootError):
    """A wrong argument, recipe field, model name or model override."""


class DataError(SimrootError):
    """A data set, image folder or image that cannot be used."""


class CheckpointError(SimrootError):
    """A run directory or checkpoint that is missing, truncated or does not fit."""


class TrainingError(SimrootError):
    """A training that cannot go on: a loss that is not finite, a full disk."""


class UnknownOperatorError(SimrootError):
    """The cost counter met an operator for which it has no formula."""


class ExportError(SimrootError):
    """An exported file that cannot be used, or would not do what the network does."""
