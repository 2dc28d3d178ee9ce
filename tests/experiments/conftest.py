"""The modules of an experiment import each other by name, as they do when its script runs."""

import sys
from pathlib import Path

SPEED = Path(__file__).parents[2] / "experiments" / "speed"
sys.path.insert(0, str(SPEED))
collect_ignore_glob = [] if SPEED.exists() else ["test_*.py"]  # a source distribution holds no experiments
