"""``python -m simroot``: the same as the command ``simroot``."""

import sys

from simroot.cli import main

sys.exit(main())
