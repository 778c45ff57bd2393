"""Damage, drawn from a generator: to bytes, to nested values, to words of a command line."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

import torch

ODD_TEXTS = (
    *(
        "",
        " ",
        "x" * 5000,
        "\x1b[31mred\x07",
        "a\nb",
        "\x85",
        "[red]",
        "[/]",
        "yes",
        "null",
        "1e3",
        "1e-3",
        "NaN",
        "inf",
    ),
    *(
        "../../up",
        "/dev/zero",
        "~",
        "-1",
        "0",
        "9" * 5000,
        "1" * 30,
        "[" * 3000,
        "{" * 50,
        "a=b",
        "%s%n",
        "日本",
        "\u202e",
    ),
)
ODD_NUMBERS = (
    0,
    1,
    -1,
    2**31,
    2**63,
    2**64,
    10**8,
    10**17,
    10**400,
    0.0,
    -0.5,
    1e-300,
    1e300,
    float("nan"),
    float("inf"),
)
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    {"a": 1},
    [None],
    ["x"],
    [[1, 2], [3]],
    {"": ""},
    *ODD_NUMBERS,
    *ODD_TEXTS,
)


def damaged(content: bytes, random: Random) -> bytes:
    """Bytes with a few of them changed, lost, doubled or put elsewhere."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 8))):
        if not data:
            return b""
        at = random.randrange(len(data))
        length = random.choice((1, 2, 4, 16, 256))
        kind = random.randrange(7)
        if kind == 0:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = data[at : at + length]
        elif kind == 5:
            data[at : at + length] = random.randbytes(length)
        else:
            data[at : at + 4] = random.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"))
    return bytes(data)


def odd_tensor(random: Random) -> Any:
    """A tensor of some other shape or type, or something that is none."""
    shape = random.choice(((), (0,), (1,), (3, 3), (2, 0, 4), (10, 32), (24, 24, 1, 1)))
    kinds: list[Any] = [
        torch.float32,
        torch.float64,
        torch.int64,
        torch.uint8,
        torch.bfloat16,
        torch.bool,
        torch.complex64,
    ]
    tensor = torch.zeros(shape, dtype=random.choice(kinds))
    return random.choice(
        (
            lambda: tensor,
            lambda: tensor + float("nan") if tensor.is_floating_point() else tensor,
            lambda: torch.zeros(shape, device="meta"),
            lambda: torch.zeros(shape).to_sparse() if shape else tensor,
            lambda: torch.zeros(1).expand(1000, 1000),
            lambda: torch.nn.Parameter(torch.zeros(shape)),
            lambda: "x",
            lambda: None,
        )
    )()


def changed(value: Any, random: Random, *, tensors: bool = False) -> Any:
    """A nested value in which one part, at any depth, is another, is lost, doubled or has another name."""
    value = copy.deepcopy(value)
    parts: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        inside = []
        for part in level:
            keys = list(part) if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
            parts += [(part, key) for key in keys]
            inside += [part[key] for key in keys]
        level = inside
    if not parts or random.random() < 0.03:
        return random.choice(ODD_VALUES)
    holder, key = random.choice(parts)
    kind = random.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[random.choice((1, "x", "\x1b[2J", "name", None))] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder.append(holder[key])
    elif kind == 3:
        holder[key] = [holder[key]]
    elif kind == 4:
        other, name = random.choice(parts)
        holder[key] = (
            copy.deepcopy(other[name]) if name in (other if isinstance(other, dict) else range(len(other))) else 1
        )
    elif tensors and kind in (5, 6):
        holder[key] = odd_tensor(random)
    else:
        holder[key] = random.choice(ODD_VALUES)
    return value
