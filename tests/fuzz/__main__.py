"""``python -m tests.fuzz [--cases N] [--first SEED] [--kind KIND ...]``: a campaign; prints what broke the rule."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import campaign
from fuzz.kinds import KINDS
from fuzz.samples import make

if sys.argv[1:2] == ["child"]:
    sys.exit(campaign.main(sys.argv[2:]))
parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
parser.add_argument("--cases", type=int, default=200, help="of each kind (default: %(default)s)")
parser.add_argument("--first", type=int, default=0, help="seed of the first case (default: %(default)s)")
parser.add_argument("--kind", action="append", choices=KINDS, help="one of them; may be repeated (default: all)")
given = parser.parse_args()
broken = 0
with tempfile.TemporaryDirectory() as folder:
    make(Path(folder))
    for kind in given.kind or KINDS:
        found = campaign.run(kind, given.first, given.cases, Path(folder))
        broken += len(found)
        print(f"{kind}: {len(found)} of {given.cases}", flush=True)
        for each in found:
            print(f"  {each.kind} {each.seed}: {each.fault}", flush=True)
sys.exit(1 if broken else 0)
