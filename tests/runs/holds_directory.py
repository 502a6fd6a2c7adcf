"""``holds_directory.py DIR``: a process that has the lock of a run directory and says that it trains there."""

import json
import os
import sys
import time
from pathlib import Path

from filelock import FileLock

if __name__ == "__main__":
    directory = Path(sys.argv[1])
    with FileLock(directory / "lock").acquire(timeout=0):
        status = {"state": "running", "pid": os.getpid(), "started_at": time.time(), "updated_at": time.time()}
        (directory / "status.partial").write_text(json.dumps(status))
        (directory / "status.partial").replace(directory / "status.json")
        time.sleep(600)
