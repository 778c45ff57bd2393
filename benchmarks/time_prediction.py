"""How well the times of networks are predicted, over the families that ``simroot design`` lists.

    simroot design --parameters 20K --milliseconds 0.5 --json | python benchmarks/time_prediction.py --milliseconds 0.5

It checks that nothing that is listed is over the budget, then prints predicted over measured times and writes
results/time_prediction.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from simroot.measure.timing import MismatchError
from simroot.training.environment import processor


def main() -> None:
    """Check, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milliseconds", type=float, required=True, help="the budget")
    parser.add_argument("--out", type=Path, default=Path("results/time_prediction.json"))
    arguments = parser.parse_args()
    listed = json.load(sys.stdin)
    if over := [each["family"] for each in listed if each["milliseconds"] > arguments.milliseconds]:
        raise MismatchError(f"over the budget of {arguments.milliseconds} ms: {'; '.join(over)}")
    rows = [
        {
            "family": each["family"],
            "measured": round(each["milliseconds"], 4),
            "predicted": round(each["predicted_milliseconds"], 4),
            "ratio": round(each["predicted_milliseconds"] / each["milliseconds"], 3),
        }
        for each in listed
    ]
    ratios = [row["ratio"] for row in rows]
    facts = {
        "processor": processor(),
        "budget": arguments.milliseconds,
        "median": round(statistics.median(ratios), 3),
        "worst": max(ratios, key=lambda ratio: max(ratio, 1 / ratio)),
    }
    for row in rows:
        print(f"{row['family']:28} {row['measured']:.3f} ms, {row['predicted']:.3f} predicted: {row['ratio']:.2f}")
    print(f"predicted / measured: median {facts['median']}, worst {facts['worst']}")
    arguments.out.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
