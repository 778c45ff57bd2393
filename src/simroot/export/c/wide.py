"""Convolutions and similarities in integers, eight filters side by side: what ``kernels/i8/wide_filters.c`` becomes."""

from __future__ import annotations

from dataclasses import dataclass

from simroot.export.c.text import kernel

_CALL = """
#ifdef SR_WIDE
    if ({whole}sr_wide_taps_fit(g, all) && sr_wide_fits(shift, {zeros}, g->filters)) {{
        {name}_wide(g, x, all, w{passed}, factor, shift{more}, bias, top, bottom, y);
        return;
    }}
#endif"""
_SQUARES = """        for (k = 0; k < next / 2; k += 8) { /* behind the numbers their squares less 32768 */
            const __m128i numbers = _mm_loadu_si128((const __m128i *)(windows + i * next + k));
            const __m128i squares = _mm_sub_epi16(_mm_mullo_epi16(numbers, numbers), _mm_set1_epi16(-32768));
            _mm_storeu_si128((__m128i *)(windows + i * next + next / 2 + k), squares);
        }"""
_ORDER = "0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15"
_PACKED = {
    8: {
        "order": f"\n    const __m256i order = _mm256_broadcastsi128_si256(_mm_setr_epi8({_ORDER}));",
        "pairs": "_mm256_permute4x64_epi64(_mm256_shuffle_epi8(found, order), 0xD8)",
        "step": "4",
    },
    16: {"order": "", "pairs": "found", "step": "2"},
}


@dataclass(frozen=True)
class Wide:
    """How windows become sums of eight filters.

    Attributes:
        bits: of weights.
        window: C's function for windows that lie inside of the grid.
        widen: the instruction by which it reads eight numbers.
        less: what is subtracted from number k of a window.
        passed: names of the other tables, behind the weights.
        zeros: C's name of the results' zeros, if each filter has one of its own; their sums are subtracted.
        whole: whether windows in parts and of groups can be read at once.
    """

    bits: int
    window: str
    widen: str
    less: str
    passed: str = ""
    zeros: str = ""
    whole: bool = False

    def helpers(self, **types: str) -> dict[str, str]:
        """Functions that are called, by name, as text."""
        weight = "int8_t" if self.bits == 8 else "int16_t"
        sums = kernel("i8/wide_sums.c", width=self.bits, weight=weight, **_PACKED[self.bits])
        behind = _SQUARES if self.zeros else ""
        window = kernel("i8/wide_window.c", name=self.window, widen=self.widen, behind=behind, **types)
        return {"wide": kernel("i8/wide.c"), f"wide sums {self.bits}": sums, self.window: window}

    def function(self, name: str, **fields: str) -> str:
        """The function that computes, before the one that it takes the place of."""
        return kernel(
            "i8/wide_filters.c",
            **fields,
            name=name,
            width=self.bits,
            less=self.less,
            window_name=self.window,
            zeros=f"sr_wide_some({self.zeros} + u, width)" if self.zeros else "_mm256_set1_epi32(g->out_zero)",
            sign="sub" if self.zeros else "add",
            piece="all" if self.zeros else "taps * g->channels",
            plain=int(not self.zeros),
        )

    def call(self, name: str) -> str:
        """Statements that call it where it can do the work."""
        passed, more = (f", {names}" if names else "" for names in (self.passed, self.zeros))
        whole = "" if self.whole else "parts == 1 && g->groups == 1 && "
        return _CALL.format(name=name, whole=whole, zeros=self.zeros or "NULL", passed=passed, more=more)
