"""Poolings by a number of each channel, which is the same text in float32 and in integers."""

from __future__ import annotations

from collections.abc import Mapping

from simroot.export.c.text import kernel

EXTREMES = {
    kind: ("x[c]", f"from[c] {sign} value[c] ? from[c] : value[c]", "value[c]")
    for kind, sign in (("max", ">"), ("min", "<"))
}
"""Of each: what a channel begins with, what becomes of it at each position, and its result."""


def pool_kernel(name: str, fields: Mapping[str, str], parameters: str, passed: str) -> str:
    """The functions of a pooling.

    Args:
        name: of the function.
        fields: what it computes, its types and expressions.
        parameters: declarations of what it is given beside its input.
        passed: their names.
    """
    more = {"parameters": f", {parameters}" if parameters else "", "passed": f", {passed}" if passed else ""}
    more |= {"lanes": "", "first": ""}
    if fields["type"] == "int8_t" and fields["what"] in EXTREMES:
        first, second = ("%2", "%0") if fields["what"] == "max" else ("%0", "%2")
        lanes = kernel("i8/pool_lanes.c", name=name, what=fields["what"], first=first, second=second)
        call = f"c = {name}_first(g, from, last_y - first_y, last_x - first_x, y);"
        more |= {"lanes": lanes, "first": f"#ifdef SR_LANES\n{' ' * 12}{call}\n#endif"}
    return kernel("pool.c", **fields, **more, name=name, unused="" if passed else "(void)count;")
