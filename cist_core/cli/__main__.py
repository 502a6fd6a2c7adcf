"""``python -m cist_core.cli``: the same as ``cist``."""

import sys

from cist_core.cli import main

sys.exit(main())
