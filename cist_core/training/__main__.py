"""``python -m cist_core.training CONFIG.json``: the same as ``cist distill CONFIG.json``."""

import sys

from cist_core.cli import main

if __name__ == "__main__":
    sys.exit(main(["distill", *sys.argv[1:]]))
