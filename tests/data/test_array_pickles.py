"""Arrays in pickles: those of numbers are read as NumPy reads them, all else is refused before it is built."""

import codecs
import pickle
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simroot.data.array_pickles import read_arrays
from simroot.untrusted.pickles import ForeignObjectError, read_pickle

reconstruct = np.empty(0).__reduce__()[0]
from_buffer = np.empty(1).__reduce_ex__(5)[0]
scalar = np.int64(0).__reduce__()[0]


class Made:
    """Pickled as a call with arguments and a state."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def array(kind: Any, shape: Any, content: Any, order: Any = False) -> Made:
    return Made(reconstruct, (np.ndarray, (0,), b"b"), (1, shape, kind, order, content))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", ["u1", "i1", "<i8", ">i8", "<f4", ">f2", "u2"])
def test_arrays_of_numbers(tmp_path: Path, protocol: int, kind: str) -> None:
    values = np.arange(12).reshape(3, 4).astype(kind)
    given = {"c": values, "f": np.asfortranarray(values), "none": values[:0], "labels": [1, 2], "x": list(values[0])}
    path = tmp_path / "a"
    path.write_bytes(pickle.dumps({**given, "text": "é", 3: None, "t": (1, 2.5)}, protocol))
    found = read_arrays(path)
    for name, expected in given.items():
        np.testing.assert_array_equal(found[name], expected)
        assert np.asarray(found[name]).dtype == np.asarray(expected).dtype
    assert (found["text"], found[3], found["t"]) == ("é", None, (1, 2.5))


def test_a_batch_of_python_2(tmp_path: Path) -> None:
    """As the official files have it: protocol 2, the bytes of the array as a string."""
    content = bytes(range(250, 256))
    text = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x02K\x03\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<i", len(content))
        + content
        + b"tbU\x06labels]q\x08(K\x01K\x00eu."
    )
    path = tmp_path / "a"
    path.write_bytes(text)
    found = read_arrays(path)
    assert found["data"].tolist() == [[250, 251, 252], [253, 254, 255]]
    assert found["labels"] == [1, 0]


address = b"\x10" * 8
HOSTILE = {
    "array of objects": array(np.dtype("O"), (1,), address),
    "array of objects in a list": array(np.dtype("O"), (1,), [1]),
    "buffer of objects": Made(from_buffer, (address, np.dtype("O"), (1,), "C")),
    "scalar of objects": Made(scalar, (np.dtype("O"), address)),
    "records": array(np.dtype([("a", "O")]), (1,), address),
    "type with flags cleared": Made(np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0)),
    "type of a list": Made(np.dtype, ([("a", "u1")],)),
    "text": array(np.dtype("U2"), (1,), address),
    "times": array(np.dtype("M8[s]"), (1,), address),
    "too few bytes": array(np.dtype("u1"), (100,), b"abc"),
    "too many bytes": array(np.dtype("u1"), (1,), b"abc"),
    "no bytes for a terabyte": array(np.dtype("u1"), (1 << 40,), b""),
    "negative": array(np.dtype("u1"), (-1,), b"abc"),
    "many dimensions": array(np.dtype("u1"), (1,) * 70, b"a"),
    "shape of numbers": array(np.dtype("u1"), 3, b"abc"),
    "truth as a length": array(np.dtype("u1"), (True,), b"a"),
    "unusual coding": Made(codecs.encode, ("abc", "zip")),
    "array made directly": Made(np.ndarray, ((10,), np.dtype("O"))),
    "key that is no word": {(1, 2): 3},
    "other code": Made(eval, ("1",)),
    "a set": {1, 2},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [2, 4])
def test_hostile_pickles(tmp_path: Path, name: str, protocol: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(pickle.dumps({"data": HOSTILE[name]}, protocol))
    with pytest.raises(ValueError, match="it "):
        read_arrays(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"\x80\x04",
        b"\x80\x04}.x",
        b"t.",
        b"e.",
        b"\x80\x02K\x01K\x02\x85\x86.",  # one value too few
        b"}K\x01s.",
        b"q\x00.",
        b"h\x05.",
        b"]K\x01a(u.",
        b"K\x01)R.",
        b"Vx\n)R.",
        b"cnumpy\nndarray\n)R.",
        b"K\x01Nb.",
        b"P1\n.",
        b"\x8e" + b"\xff" * 8 + b"x.",  # bytes of a length that there is not
        b"r\xff\xff\xff\xff.",
        b"I" + b"9" * 10_000 + b"\n.",
        b"(" * 10_000,
        b"\x8c\x01a\x8c\x01b\x93.",
    ],
    ids=repr,
)
def test_damaged_pickles(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    if content == b"\x80\x04}.x":
        assert read_arrays(path) == {}  # what follows the end is not looked at
        return
    with pytest.raises(ValueError, match=r"\w"):
        read_arrays(path)


def test_the_name_of_foreign_code_is_told() -> None:
    with pytest.raises(ForeignObjectError, match=r"it holds posix\.system, which is not an array"):
        read_pickle(b"cposix\nsystem\n.", {})


@pytest.mark.slow
def test_deep_values_do_not_end_the_process(tmp_path: Path) -> None:
    """Python's own unpickler asks for the hash of a key, and of what is inside it, and so on."""
    path = tmp_path / "a"
    path.write_bytes(b"}" + b")" + b"\x85" * 1_000_000 + b"K\x01s.")
    code = "import sys, pathlib; from simroot.data import array_pickles as a; a.read_arrays(pathlib.Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ValueError: it is no pickle of plain values")
