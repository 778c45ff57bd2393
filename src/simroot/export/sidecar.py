"""What lies beside an exported file for programs that do not read its metadata, and how fast int8 is."""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from simroot.engines import open_file

if TYPE_CHECKING:
    from simroot.export.checked import Exported

CLASSES = "classes.json"

_MEASURED = (
    *("images", "difference", "agreement", "accuracy", "network_accuracy"),
    *("milliseconds", "float32_milliseconds"),
)
_ROUNDS = 10
_SECONDS = 0.02  # of a file in a round

logger = logging.getLogger("simroot")


def described(
    exported: Exported, temporary: Path, inside: bool = False, more: Mapping[str, Any] | None = None
) -> Exported:
    """The same, after writing ``classes.json`` and ``FILE.json`` beside it.

    The first holds the names in the order of the scores, the second all metadata and what was measured.

    Args:
        exported: the file.
        temporary: where it is now; its folder is given its place as a whole.
        inside: that folder is what ``exported.path`` names.
        more: what else the second says.
    """
    classes = (exported.path / CLASSES) if inside else exported.path.with_name(CLASSES)
    if (names := exported.description.classes) is not None:
        if _read(classes) not in (None, list(names)):
            logger.warning("%s named other classes and is replaced", classes)
        _write(temporary.with_name(CLASSES), list(names))
    properties = exported.description.properties().items()
    metadata = {key.removeprefix("simroot."): json.loads(value) for key, value in properties}
    figure = exported.description.task.figure.replace(" ", "_")
    measured = {
        name.replace("accuracy", figure): value for name in _MEASURED if (value := getattr(exported, name)) is not None
    }
    _write(temporary.with_name(f"{temporary.name}.json"), {**metadata, **(more or {}), "measured": measured})
    return exported


def compare_speed(path: Path, int8: Path, float32: Path, example: NDArray[Any]) -> tuple[float, float]:
    """Milliseconds for one input on one thread, of an int8 file and of the same network in float32.

    Integers are no faster everywhere: the log says so, of the file at ``path``, where they are slower.
    """
    fast, plain = _milliseconds([int8, float32], example)
    if fast > plain:
        logger.warning(
            "%s: int8 is slower than float32 on this machine, %.3f against %.3f ms an image (one thread, batch 1): "
            "without --int8 the file is faster, with it smaller",
            path,
            fast,
            plain,
        )
    return fast, plain


def _milliseconds(files: list[Path], example: NDArray[Any]) -> list[float]:
    """Medians; the files take turns, so that whatever slows the machine down hits all of them."""
    runs = [open_file(file, threads=1).run for file in files]
    times: list[list[float]] = [[] for _ in files]
    for _ in range(_ROUNDS):
        for run, seen in zip(runs, times, strict=True):
            run(example)
            end = time.perf_counter() + _SECONDS
            while (start := time.perf_counter()) < end:
                run(example)
                seen.append(1e3 * (time.perf_counter() - start))
    return list(map(statistics.median, times))


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
