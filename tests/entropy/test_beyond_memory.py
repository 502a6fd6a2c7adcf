"""A file of logits larger than the memory that a process may take opens, and is read by sliders."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from scipy import special, stats

from cist_core.logits.logit_set import safetensors_header

CLASSES, REAL_ROWS = 50_000, 64
ALLOWED_BYTES = 400 << 20
GIGABYTES = int(os.environ.get("CIST_TEST_GIGABYTES", "1"))  # 20 takes some minutes

LOOK = """
    import json, resource, sys, time
    import numpy as np
    from cist_core import Cist, EntropyCurves, EntropyProfile, Fixed, LogitSet

    def line(name):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))

    small = LogitSet.load(sys.argv[2])  # imports and compiles
    for curves in (EntropyCurves.tabulated(small), EntropyCurves.from_logits(small)):
        curves.at_temperature(2.0), curves.at_ratio(3.0), curves.at_temperature(np.full(curves.num_samples, 2.0))
    usual = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (line("VmData") + int(sys.argv[3]), usual[1]))

    logit_set = LogitSet.load(sys.argv[1])
    curves = EntropyCurves.open(logit_set)
    assert not curves.exact
    found = {"samples": curves.num_samples, "constant": logit_set.constant_rows}
    for tau in (8.0, 2.0, 0.05):
        found[f"{tau}"] = curves.at_temperature(tau)[-64:].astype(float).tolist()
    assert curves.confirm(4.0)
    assert EntropyProfile.of(Fixed(2.0), curves).mean > EntropyProfile.of(Cist(30.0), curves).mean
    print(json.dumps(found))
"""


def sparse_file(path, size):
    """Rows of zeros that take no room on the disk, and real ones at the end."""
    rows = size // (2 * CLASSES)
    real = (3 * np.random.default_rng(0).standard_normal((REAL_ROWS, CLASSES))).astype(np.float16)
    with path.open("wb") as stream:
        stream.write(safetensors_header({}, [("logits", np.dtype(np.float16), (rows, CLASSES))]))
        stream.seek(2 * CLASSES * (rows - REAL_ROWS), os.SEEK_CUR)
        stream.write(real.tobytes())
    return rows, real


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs the memory figures of Linux")
def test_a_file_beyond_memory_opens_and_slides(tmp_path):
    rows, real = sparse_file(tmp_path / "large.safetensors", GIGABYTES * 10**9)
    sparse_file(tmp_path / "small.safetensors", 100 * 2 * CLASSES)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOOK), "large.safetensors", "small.safetensors", str(ALLOWED_BYTES)],
        cwd=tmp_path, env={**os.environ, "CIST_CACHE": str(tmp_path / "cache"), "PYTHONPATH": os.getcwd()},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert (found["samples"], found["constant"]) == (rows, rows - REAL_ROWS)
    for tau in (8.0, 2.0, 0.05):  # the last lies beyond the table
        expected = stats.entropy(special.softmax(real.astype(np.float64) / tau, axis=1), axis=1)
        np.testing.assert_allclose(found[f"{tau}"], expected, atol=1e-4)
