"""The registry as a file, ``catalogue.json``, which tells what there is without PyTorch.

``python -m simroot.models.catalogue`` writes it anew after a change of the registered networks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simroot.models.registry import list_models, registered

CATALOGUE = Path(__file__).with_name("catalogue.json")


def catalogue() -> list[dict[str, Any]]:
    """What the registry says of every network, as JSON has it: a dictionary for each, sorted by name."""
    keys = ("name", "parameters", "macs", "input_size", "num_classes", "summary", "overrides")
    entries = filter(None, map(registered, list_models()))
    found: list[dict[str, Any]] = json.loads(
        json.dumps([{key: getattr(each, key) for key in keys} for each in entries])
    )
    return found


if __name__ == "__main__":
    CATALOGUE.write_text("[\n" + ",\n".join(map(json.dumps, catalogue())) + "\n]\n", encoding="utf-8")
