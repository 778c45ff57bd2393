"""Tests run side by side, a process for each core: each, and each process that it starts, has one thread."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Modules and collected tests, which are millions of objects, stay until the end: no search for garbage looks at them.
gc.disable()


def pytest_runtestloop() -> None:
    gc.freeze()
    gc.enable()
