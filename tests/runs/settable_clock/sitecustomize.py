"""The system's clock, as a process sees it that has this folder on its path: moved by the seconds in a file.

What Linux derives from the clock moves with it: the time since 1970, and the moment of the boot, from which psutil
computes when processes have started.
"""

import os
import time
from pathlib import Path

_real_time = time.time
_moved = Path(os.environ["CIST_TEST_CLOCK"])


def _seconds() -> float:
    return float(_moved.read_text())


time.time = lambda: _real_time() + _seconds()

import psutil  # noqa: E402 - after the clock is ours

if psutil.LINUX:
    _real_boot_time = psutil._psplatform.boot_time
    psutil._psplatform.boot_time = lambda: _real_boot_time() + _seconds()
