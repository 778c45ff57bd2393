"""What the images decide of their preparation where nothing else is said: size, fit, pixel range and background."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from simroot.data.splits import evenly
from simroot.errors import DataError
from simroot.images.decoding import Header, decode_array, grey_span, visible_pixels
from simroot.images.preparation import (
    AUTO,
    COLOURS,
    FITS,
    LARGEST_IN_MEMORY,
    MUCH_CUT,
    ImageSize,
    Preparation,
    as_background,
    as_image_size,
    as_pixel_range,
)
from simroot.images.sources import Source

_SAMPLE = 256  # images that are looked at
_ALIKE = 1.25  # ratio of the widest to the narrowest shape up to which all count as one
_ODD = 0.02  # share of the images that may be odd, at either end
_FEW = 10  # images of which none counts as odd
_WIDE = 0.5  # share of the full range from which on images are left as they are
_MARGIN = 0.05  # of the range, for images darker or brighter than all that were looked at
_NAMED = 3  # values for pixels without data
_FAINT = 32.0  # mean distance from the background, of 255, below which a drawing fades
_GREY = (128, 128, 128)

logger = logging.getLogger("simroot")

Image = tuple[Header, Source]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Asked:
    """What was said of a preparation; None and "auto" leave it to the images. See ``Preparation``."""

    image_size: ImageSize | None = None
    channels: int | None = None
    fit: str = AUTO
    pixel_range: tuple[float, float] | str | None = AUTO
    background: tuple[int, int, int] | str = AUTO

    @classmethod
    def of(
        cls,
        image_size: int | Sequence[int] | None = None,
        channels: int | None = None,
        fit: str = AUTO,
        pixel_range: str | Sequence[float] | None = AUTO,
        background: str | Sequence[int] = AUTO,
    ) -> Asked:
        """Checked arguments of ``load``.

        Raises:
            DataError: for a value that is none of those expected.
        """
        if fit not in (AUTO, *FITS):
            raise DataError(f"fit is {fit!r}; expected {AUTO}, {', '.join(FITS)}")
        return cls(
            None if image_size is None else as_image_size(image_size),
            channels,
            fit,
            AUTO if pixel_range == AUTO else as_pixel_range(pixel_range),
            AUTO if background == AUTO else as_background(background),
        )

    def shape(self, headers: Sequence[Header]) -> tuple[int, ImageSize]:
        """Channels and image size, as far as they are not said those that images of these headers ask for."""
        image_size, channels = self.image_size, self.channels
        if image_size is None:
            lengths = {length for header in headers for length in header[:2]}
            alike = len(lengths) == 1 and max(lengths) <= LARGEST_IN_MEMORY
            image_size = lengths.pop() if alike else LARGEST_IN_MEMORY
        return channels or (1 if all(header.grey for header in headers) else 3), image_size

    def settled(self, channels: int, image_size: ImageSize, images: Sequence[Image]) -> Preparation:
        """The preparation that training images of these headers ask for, and a word in the log about it."""
        fit = self._fit(Preparation(channels, image_size), [header[:2] for header, _ in images])
        pixel_range = _pixel_range(self.pixel_range, [source for header, source in images if header.deep])
        preparation = Preparation(channels, image_size, fit, pixel_range)
        if isinstance(self.background, tuple):
            return _with_background(preparation, self.background)
        transparent = [source for header, source in images if header.transparent]
        if transparent:
            return _with_background(preparation, _contrasting(transparent, channels))
        if fit == "pad":
            return _with_background(preparation, _mean_colour(preparation, [source for _, source in images]))
        return preparation

    def settled_for(self, images: Tensor) -> Preparation:
        """The preparation of images that were never files, uint8 (N,C,H,W)."""
        _, channels, height, width = images.shape
        image_size = as_image_size((height, width)) if self.image_size is None else self.image_size
        fit = self._fit(Preparation(channels, image_size), [(width, height)])
        pixel_range = _pixel_range(self.pixel_range, [])
        preparation = Preparation(channels, image_size, fit, pixel_range)
        if isinstance(self.background, tuple):
            return _with_background(preparation, self.background)
        if fit == "pad":
            colour = images.mean((0, 2, 3), dtype=torch.float64).expand(3).round().int().tolist()
            return _with_background(preparation, as_background(colour))
        return preparation

    def _fit(self, cropped: Preparation, sizes: Sequence[tuple[int, int]]) -> str:
        """``fit``, or else crop if it cuts little, stretch if all images have about one shape, and pad if not."""
        frames = [cropped.frame(width, height) for width, height in sizes]
        cut = 1 - float(np.mean([frame.kept for frame in frames] or [1.0]))
        share = f"{cut:.0%} of the pixels"
        if self.fit != AUTO:
            if self.fit == "crop" and cut >= MUCH_CUT:
                logger.warning("fit crop cuts away %s, at the margins of the images; pad or stretch keeps them", share)
            return self.fit
        if cut < MUCH_CUT:
            if cut > 0:
                logger.info("fit crop: %s are cut away at the margins; set fit to pad or stretch to keep them", share)
            return "crop"
        narrow, wide = np.quantile([frame.room[0] / frame.room[1] for frame in frames], (0.05, 0.95))
        fit, shapes = ("stretch", "about one shape") if wide <= _ALIKE * narrow else ("pad", "different shapes")
        logger.info("fit %s: a crop would cut away %s, and the images have %s; set fit for another", fit, share, shapes)
        return fit


def _pixel_range(asked: tuple[float, float] | str | None, deep: Sequence[Source]) -> tuple[float, float] | None:
    """What was asked for, or else the range of almost all images, None if they use their full range well."""
    if asked is None or isinstance(asked, tuple):
        if asked and not deep:
            logger.warning("no image has more than 8 bits a pixel: pixel_range changes nothing")
        return asked
    spans = _looked_at(deep, grey_span)
    if not spans:
        return None
    least, low, high, most, top = np.array([span[:5] for span in spans], dtype=np.float64).T
    no_data = sorted({span.no_data for span in spans if span.no_data is not None})
    start, stop = np.quantile(low, _ODD, method="higher"), np.quantile(high, 1 - _ODD, method="lower")
    if len(spans) < _FEW or start >= stop:
        start, stop = low.min(), high.max()
    legal = bool((least >= 0).all() and (most <= top).all()) and not no_data
    if start == stop or (legal and (stop - start >= _WIDE * top.max() or len(set(top)) > 1)):
        return None
    margin = _MARGIN * (stop - start)
    found = max(start - margin, least.min()), min(stop + margin, most.max())
    if top.min() > 1:
        found = np.floor(found[0]), np.ceil(found[1])
    if no_data:
        values = ", ".join(f"{value:g}" for value in no_data[:_NAMED])
        logger.warning("%s is far from all other values and taken for pixels without data", values)
    logger.info("pixel range %g to %g: that of the training images; set pixel_range for another", *found)
    return float(found[0]), float(found[1])


def _contrasting(transparent: Sequence[Source], channels: int) -> tuple[int, int, int]:
    """White, or, where drawings fade on it, the one of white, black and grey on which the faintest are seen best."""
    drawings = [pixels for pixels in _looked_at(transparent, visible_pixels) if len(pixels)]
    if not drawings:
        return COLOURS["white"]
    luma = np.array([0.299, 0.587, 0.114])

    def contrast(colour: tuple[int, int, int]) -> float:
        away = [pixels[:, :3] - np.array(colour, dtype=np.float64) for pixels in drawings]
        if channels == 1:
            away = [difference @ luma[:, None] for difference in away]
        means = [np.average(np.abs(d).mean(1), weights=p[:, 3]) for d, p in zip(away, drawings, strict=True)]
        return float(np.quantile(means, 0.1))

    candidates = (COLOURS["white"], COLOURS["black"], _GREY)
    return candidates[0] if contrast(candidates[0]) >= _FAINT else max(candidates, key=contrast)


def _mean_colour(preparation: Preparation, sources: Sequence[Source]) -> tuple[int, int, int]:
    """That of the images: after the normalisation it is nothing."""
    small = Preparation(3, 8, "stretch", preparation.pixel_range)
    colours = [pixels.mean((1, 2)) for pixels in _looked_at(sources, lambda source: decode_array(source, small))]
    red, green, blue = np.rint(np.mean(colours, 0)).astype(int).tolist() if colours else _GREY
    return red, green, blue


def _with_background(preparation: Preparation, colour: tuple[int, int, int]) -> Preparation:
    if colour != COLOURS["white"]:
        logger.info("background %d,%d,%d, behind transparent pixels and around padded images", *colour)
    return replace(preparation, background=colour)


def _looked_at(sources: Sequence[Source], function: Callable[[Source], Result]) -> list[Result]:
    """function(source) of a sample of those that can be read."""
    found = []
    for index in evenly(len(sources), _SAMPLE).tolist():
        try:
            found.append(function(sources[index]))
        except Exception:  # a decoder may raise anything; what cannot be read is reported where it is decoded
            logger.debug("not looked at", exc_info=True)
    return found
