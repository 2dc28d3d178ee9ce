"""``python -m pyrovae.cli``: the same as the console script."""

import sys

from pyrovae.cli import main

sys.exit(main())
