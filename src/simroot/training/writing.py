"""How the files of a run directory are written."""

from __future__ import annotations

from functools import partial

from simroot import files
from simroot.errors import TrainingError
from simroot.files import Words

_WORDS: Words = {
    "error": TrainingError,
    "advice": "the files of the last complete epoch are untouched: make room or mend the folder, then resume the run",
}
# What a training writes into its run directory; raises TrainingError.
write_atomic = partial(files.write_atomic, **_WORDS)
write_text = partial(files.write_text, **_WORDS)
