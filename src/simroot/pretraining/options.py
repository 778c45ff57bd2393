"""What can be chosen of a pre-training, and its defaults: for whoever offers them without pre-training."""

from typing import Literal

Method = Literal["ica", "pca"]
Scale = Literal["tempered", "likelihood"]
Offsets = Literal["keep", "clusters", "labels"]

DIMENSIONS = ("bayes", "mle")
PATCHES = 100_000
