"""The script for a GPU works on a machine without one, at toy size."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="would take its ten minutes on this GPU")
def test_gpu_check_runs_at_toy_size_without_a_gpu(tmp_path: Path) -> None:
    results = tmp_path / "check.json"
    environment = {**os.environ, "PYTHON": sys.executable, "GPU_CHECK_RESULTS": str(results), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", ROOT / "benchmarks" / "gpu_check.sh"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(results.read_text())
    assert found["device"] == "cpu, toy sizes"
    for part in ("first pass", "move", "sweep of 64", "divergence"):
        assert found["kernels"][part]["ratio"] > 0
        assert found["kernels over a vocabulary"][part]["ratio"] > 0
    for part in ("compiled", "compiled over a vocabulary"):
        assert all(found[part][kernel]["ratio"] > 0 for kernel in ("first pass", "move", "sweep of 64", "divergence"))
    assert found["inference"]["resnet8, float32"]["torch_images_per_s"] > 0
    assert found["inference"]["resnet8, bfloat16"]["ours_images_per_s"] > 0
    assert found["reading"]["of_their_sum"] > 0
    assert found["memory"] == {"images": 64, "asked_for": 64, "taken": 8, "finite": True}
    runs = found["pair"]["student_runs"]["runs"]
    assert [run["objective"] for run in runs] == ["cist:rho=3", "cist:rho=3,lambda_kl=8"]
    assert all(0 <= run["test_accuracy"] <= 1 for run in runs)
