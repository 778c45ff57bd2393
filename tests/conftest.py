"""Tests run side by side, a process for each core: each, and each process that it starts, has one thread."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
