"""``python -m cist_core``: the same as ``cist``."""

import sys

from cist_core.cli import main

sys.exit(main())
