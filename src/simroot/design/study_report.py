"""What a search found: its best networks, what mattered, and the command that trains the best one."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simroot.design.frontier import shape
from simroot.design.study import FAMILY, NETWORK, RATE
from simroot.errors import ConfigError, counted
from simroot.files import write_atomic, write_text
from simroot.trials.experiment import markdown_table
from simroot.trials.networks import Network

if TYPE_CHECKING:
    import optuna
    from matplotlib.figure import Figure

_SHOWN = 10
# From so many complete trials on, what mattered is more than chance.
_ENOUGH = 4


def report_study(study: optuna.Study, folder: Path) -> Path:
    """Write ``search.json``, ``search.md`` and ``search.png``.

    Args:
        study: with at least one complete trial.
        folder: of the files.

    Returns:
        The JSON file.

    Raises:
        ConfigError: if no trial is complete.
    """
    complete = sorted(_of(study, "COMPLETE"), key=lambda trial: -_value(trial))
    if not complete:
        raise ConfigError("no training of the search could be completed; the log says why")
    best = complete[0].user_attrs[NETWORK]
    mattered = importances(study, str(best["family"]))
    content = {
        "search": study.user_attrs.get("search", {}),
        "best": {**best, "accuracy": _value(complete[0])},
        "importances": mattered,
        "trials": [_row(trial) for trial in study.trials if NETWORK in trial.user_attrs],
    }
    path = folder / "search.json"
    write_text(path, json.dumps(content, indent=1) + "\n")
    write_text(path.with_suffix(".md"), _markdown(study, complete, mattered))
    figure = _figure(study, mattered)
    write_atomic(path.with_suffix(".png"), lambda file: figure.savefig(file, format="png"))
    return path


def importances(study: optuna.Study, family: str) -> dict[str, float]:
    """Shares of the accuracy's variance, as Optuna has them: of family and rate, then of the best family's choices.

    Empty if too few trials are complete. Two families have no choices in common, so theirs are shares of a sum of 1 of
    their own.
    """
    named = [name for name in {key for trial in study.trials for key in trial.params} if name.startswith(f"{family}: ")]
    found: dict[str, float] = {}
    for names in ([FAMILY, RATE], sorted(named)):
        trials = [trial for trial in _of(study, "COMPLETE") if set(names) <= trial.params.keys()]
        if not names or len(trials) < _ENOUGH or len({_value(trial) for trial in trials}) == 1:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few trials, and what is experimental in Optuna
            shares = importlib.import_module("optuna.importance").get_param_importances(study, params=names)
        found |= {name: float(share) for name, share in shares.items()}
    return found


def _of(study: optuna.Study, state: str) -> list[Any]:
    return [trial for trial in study.trials if trial.state.name == state]


def _value(trial: Any) -> float:
    """Accuracy of a complete trial; of one that was ended early, that of its last epoch."""
    if trial.state.name == "COMPLETE":
        return float(trial.value)
    return float(trial.intermediate_values[trial.last_step]) if trial.intermediate_values else 0.0


def _row(trial: Any) -> dict[str, Any]:
    epochs = {str(step): value for step, value in trial.intermediate_values.items()}
    state = {"number": trial.number, "state": trial.state.name.lower(), "accuracy_by_epoch": epochs}
    return {**trial.user_attrs[NETWORK], **state}


def _markdown(study: optuna.Study, complete: Sequence[Any], mattered: Mapping[str, float]) -> str:
    rows = []
    for trial in complete[:_SHOWN]:
        known = trial.user_attrs[NETWORK]
        text = shape(Network(known["family"], known["model"], known["overrides"]))
        sizes = [f"{known[size]:,}" for size in ("parameters", "macs")]
        rows.append([known["family"], text, f"{known['learning_rate']:g}", *sizes, f"{100 * _value(trial):.2f}"])
    columns = ["network", "shape", "learning rate", "parameters", "MACs", "accuracy (%)"]
    asked = study.user_attrs.get("search", {})
    images = asked.get("images", {})
    states = [f"{counted(len(_of(study, state)), 'trial')} {text}" for state, text in _STATES.items()]
    setting = (
        f"Accuracy on {images.get('val', 0):,} of the training images after {asked.get('epochs')} epochs on the other "
        f"{images.get('train', 0):,}; the validation images are unseen. {'; '.join(states)}."
    )
    shares = "; ".join(f"{name} {share:.0%}" for name, share in mattered.items())
    more = f"\n\nWhat mattered, as shares of the variance: {shares}." if shares else ""
    return (
        f"# Search within {asked.get('budget')}\n\n{markdown_table(columns, rows)}\n\n{setting}{more}\n\n"
        f"To train the best on all training images, for longer with more epochs:\n\n"
        f"    {complete[0].user_attrs[NETWORK]['command']}\n"
    )


_STATES = {"COMPLETE": "to the end", "PRUNED": "ended early", "FAIL": "left out or taken up again"}


def _figure(study: optuna.Study, mattered: Mapping[str, float]) -> Figure:
    """Shares of what mattered, and the accuracy of every trial; those that were ended early are hollow."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    names = list(mattered)[::-1]
    left.barh(names, [100 * mattered[name] for name in names])
    left.set_xlabel("share of the variance of the accuracy (%)")
    if not names:
        left.set_title("too few complete trials to say what mattered")
    trained = [trial for trial in study.trials if trial.intermediate_values and NETWORK in trial.user_attrs]
    for number, family in enumerate(dict.fromkeys(trial.user_attrs[NETWORK]["family"] for trial in trained)):
        own = [trial for trial in trained if trial.user_attrs[NETWORK]["family"] == family]
        right.scatter(
            [trial.number for trial in own],
            [100 * _value(trial) for trial in own],
            edgecolors=f"C{number % 10}",
            facecolors=[f"C{number % 10}" if trial.state.name == "COMPLETE" else "none" for trial in own],
            label=family,
        )
    right.set_xlabel("trial")
    right.set_ylabel("accuracy on images kept back (%)")
    right.grid(alpha=0.3)
    if trained:
        right.legend(fontsize=8)
    return figure
