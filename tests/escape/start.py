"""Starts the attempts inside a job: ``python start.py < plan``. The standard library alone."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.escape.inside import driver

driver.main()
