"""Values in a notebook."""

from simroot.measure import Cost
from simroot.measure.cost import LayerCost
from simroot.notebook import html_table


def test_a_cost_is_a_table() -> None:
    text = Cost(1234, 56, 78, (LayerCost("conv", "Conv2d", (3, 4, 4), 1234, 56, 78),))._repr_html_()
    assert text.count("<tr>") == 3
    assert ">1,234<" in text
    assert ">3x4x4<" in text


def test_text_from_outside_is_escaped() -> None:
    assert "<b>" not in html_table("<b>", [("<b>", None)], ("<b>",))
