"""Starts one of two jobs: ``python start_pair.py < plan``. The standard library alone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.escape.inside import pair

pair.main()
