"""Hashes of images: 64 bits of BLAKE2, as int64."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BYTES = 8


def pixel_hash(pixels: NDArray[np.uint8]) -> int:
    """Hash of one image's pixels (C, H, W)."""
    return _hash(np.ascontiguousarray(pixels).data)


def pixel_hashes(images: Tensor) -> Tensor:
    """int64 (N,): of each of the images, uint8 (N, C, H, W)."""
    return torch.tensor([pixel_hash(image) for image in images.numpy()], dtype=torch.int64)


def name_hash(name: str, size: int) -> int:
    """Hash of a file's name with that of its class folder, and its size in bytes."""
    text = "/".join([*name.split("/")[-2:], str(size)])
    return _hash(text.encode("utf-8", "surrogateescape"))


def _hash(content: bytes | memoryview) -> int:
    return int.from_bytes(blake2b(content, digest_size=_BYTES).digest(), "little", signed=True)
