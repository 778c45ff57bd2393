"""YAML and JSON at the door: only plain values, of bounded size."""

import os
from pathlib import Path

import pytest
import yaml

from simroot.errors import ConfigError
from simroot.untrusted.documents import read_json, read_yaml, with_numbers, write_yaml

NAMES = [
    *("yes", "null", "~", "1e3", "1e-3", "0x1", "1:30", "2020-01-01", ".inf", "<<", "=", "[red]", "[/]", "- a", "a: b"),
    *(
        "",
        " a ",
        "a\nb",
        "a\r\n b",
        "\t",
        "\x85",
        "a\x85b",
        "\u2028",
        "\ufeff",
        "\x1b[31m",
        "Zoë",
        "日本",
        "🙂",
        "#",
        "&a",
    ),
    *("e\u0301", "'", '"', "\\", "%", "!!python/name:os.system"),
]


@pytest.mark.parametrize("names", [NAMES, [chr(code) for code in range(0x250)], ["\udcff", "a"]], ids=len)
def test_texts_come_back_as_they_were(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(write_yaml({"classes": names, "n": 1}).encode())
    assert read_yaml(path) == {"classes": names, "n": 1}


def test_letters_stay_readable() -> None:
    assert write_yaml(["Zoë", "日本"]) == "- Zoë\n- 日本\n"


def many_times() -> str:
    rows = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"]
    rows += [f"a{row}: &a{row} [{', '.join([f'*a{row - 1}'] * 10)}]" for row in range(1, 10)]
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (many_times(), "more than 100,000 values"),
        ("a: &a [*a]", r"the alias \*a stands for nothing, or for what it is part of"),
        ("a: *b", "alias"),
        ("a: " + "[" * 100_000, "no YAML"),
        ("a: " + "[" * 50 + "]" * 50, "nested more than 30 deep"),
        ("- " * 50 + "1", "nested more than 30 deep"),
        ("a: " + "9" * 10_000, "4300 digits"),
        ("a: 2020-01-01", "it holds a date"),
        ("a: 2020-99-99", "no YAML"),
        ("a: !!set {b}", "the tag"),
        ("a: !!bool maybe", "the tag"),
        ("a: !!python/name:os.system ''", "the tag"),
        ("? [1, 2]\n: 3", "unhashable"),
        ("<<: 1", "merging"),
        ("a:\x00", "no YAML"),
        ("a: [", "no YAML"),
    ],
)
def test_hostile_yaml(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path)
    assert len(str(caught.value)) <= 1000


def test_few_aliases_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &x [1, 2]\nb: *x\nc: {<<: {d: *x}}\n")
    assert read_yaml(path) == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}


def test_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: \xff")
    for read in (read_yaml, read_json):
        with pytest.raises(ConfigError, match="not written in UTF-8"):
            read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "no JSON"), ("[" * 100_000, "nested too deeply"), ("[" * 40 + "]" * 40, "nested more than 30"), ("", "no")],
)
def test_hostile_json(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_json(path)


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_only_regular_files_of_bounded_size(tmp_path: Path, read: object) -> None:
    assert callable(read)
    link, pipe, large = tmp_path / "link", tmp_path / "pipe", tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 40)  # sparse
    with pytest.raises(ConfigError, match="bytes; expected at most"):
        read(large)
    with pytest.raises(ConfigError, match="is a folder; expected a file"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")
    if os.name == "posix":
        os.mkfifo(pipe)
        link.symlink_to("/dev/zero")
        for path in (pipe, link):
            with pytest.raises(ConfigError, match="is a pipe or device; expected a file"):
                read(path)


def test_numbers_that_yaml_takes_for_words() -> None:
    given = {"rate": "1e-3", "more": ["1E5", ".5e+1", "-2.e3", "e5", "1e", "1e3x", 4]}
    assert with_numbers(given) == {"rate": 1e-3, "more": [1e5, 5.0, -2e3, "e5", "1e", "1e3x", 4]}


def test_what_is_not_plain_is_not_written() -> None:
    with pytest.raises(yaml.YAMLError):
        write_yaml({"a": Path("x")})
