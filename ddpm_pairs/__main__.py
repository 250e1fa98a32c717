"""``python -m ddpm_pairs``: the same program as ``lightning`` and ``ddpm-pairs``."""

import sys

from ddpm_pairs.cli.main import main

sys.exit(main())
