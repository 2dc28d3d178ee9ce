"""``python -m pyrovae``: the same as the console script."""

import sys

from pyrovae.cli import main

if __name__ == "__main__":
    sys.exit(main())
