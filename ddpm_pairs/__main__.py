"""``python -m ddpm_pairs``: the same program as ``lightning`` and ``ddpm-pairs``."""

import sys

from ddpm_pairs.cli.main import main

if __name__ == "__main__":  # a class path in a file may name this module
    sys.exit(main())
