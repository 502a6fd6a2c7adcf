"""The system's clock, as a process sees it that has this folder on its path: moved by the seconds in a file.

What Linux derives from the clock moves with it: the time since 1970, and the moment of the boot, from which psutil
computes when processes have started.
"""

import os
import time
from pathlib import Path

if moved := os.environ.get("CIST_TEST_CLOCK"):
    real_time = time.time
    time.time = lambda: real_time() + float(Path(moved).read_text())

    import psutil

    if psutil.LINUX:
        real_boot_time = psutil._psplatform.boot_time
        psutil._psplatform.boot_time = lambda: real_boot_time() + float(Path(moved).read_text())
