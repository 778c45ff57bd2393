"""The tables of Deep Roots: every row to the printed digits."""

from __future__ import annotations

import pytest

from simroot.measure import count
from simroot.models import create_model, deploy, model_entry
from simroot.reproduce import TABLES, SizeTable

# As printed: parameters in units of 1e5 or 1e7, operations in units of 1e8, 1e9, 1e12 and 1e9.
PRINTED = {
    "deep-roots-table-2": "9.67 2.22, 7.37 1.64, 4.55 1.23, 3.15 1.03, 2.45 0.93",
    "deep-roots-table-4": "2.55 3.86, 2.54 3.68, 2.51 3.37, 2.32 2.86, 1.87 2.43, 1.64 2.22, 1.53 2.11",
    "deep-roots-table-5": "6.25 5.65, 6.24 5.64, 6.06 5.46, 4.91 4.84, 3.98 4.43, 3.51 4.23, 3.28 4.13",
    "deep-roots-table-6": "1.88 1.72, 1.88 1.54, 1.85 1.29, 1.75 0.96, 1.63 0.76",
}
UNITS = {"2": (1e5, 1e8), "4": (1e7, 1e9), "5": (1e7, 1e12), "6": (1e7, 1e9)}


# ResNet-200 seven times takes seconds.
_SLOW = ("deep-roots-table-4", "deep-roots-table-5", "deep-roots-table-6")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name in _SLOW else name for name in PRINTED],
)
def named(request: pytest.FixtureRequest) -> tuple[str, SizeTable]:
    return request.param, TABLES[request.param]()


def test_every_row_matches_the_printed_digits(named: tuple[str, SizeTable]) -> None:
    name, table = named
    parameter_unit, mac_unit = UNITS[name[-1]]
    ours = [f"{row.parameters / parameter_unit:.2f} {row.macs / mac_unit:.2f}" for row in table.rows]
    paper = [f"{row.paper_parameters / parameter_unit:.2f} {row.paper_macs / mac_unit:.2f}" for row in table.rows]
    assert ours == paper == PRINTED[name].split(", ")
    assert all(map(table.matches, table.rows))
    assert all(isinstance(value, (int, str)) for row in table.rows for value in row.as_dict().values())


def test_rows_are_networks_of_the_registry(named: tuple[str, SizeTable]) -> None:
    for row in named[1].rows:
        entry = model_entry(row.model)
        assert entry.parameters is not None
        assert entry.macs is not None
        # Theirs are counted with batch normalisation's parameters and without biases in the operations.
        parameters, macs = row.true_parameters or row.parameters, row.true_macs or row.macs
        assert entry.parameters == pytest.approx(parameters, rel=0.01)
        assert entry.macs == pytest.approx(macs, rel=1e-4)


@pytest.mark.slow
def test_known_integers() -> None:
    rows = {row.model: row for name in PRINTED for row in TABLES[name]().rows}
    assert len(rows) == 24
    assert rows["nin_root8"].parameters == 314_954
    assert round(rows["nin_root8"].macs / 1e6, 2) == 103.34
    assert rows["resnet50_root64"].parameters == 15_312_808
    assert [rows[name].true_parameters for name in ("resnet200", "resnet200_root64")] == [64_497_832, 34_860_904]
    assert [round((rows[name].true_macs or 0) / 1e9, 1) for name in ("resnet200", "resnet200_root64")] == [15.0, 7.8]
    assert rows["googlenet"].true_parameters == 6_998_552
    assert rows["nin"].true_macs is None


def test_the_convention_is_the_counters_with_each_bias_once() -> None:
    """The counter of ``simroot.measure`` runs the deployed network; the table's looks at the shapes of layers."""
    model = deploy(create_model("nin_root8"))
    cost = count(model, (3, 32, 32))
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias"))
    row = TABLES["deep-roots-table-2"]().rows[3]
    assert (row.parameters, row.macs) == (cost.parameters, cost.macs + biases)
