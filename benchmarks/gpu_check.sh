#!/usr/bin/env bash
# Everything that only a GPU can show, in one go of at most ten minutes. On a machine without one it runs at toy size.
#   benchmarks/gpu_check.sh [FOLDER OF cifar100_train.npz AND cifar100_test.npz] [SECONDS]
# PYTHON chooses the interpreter; the figures go to benchmarks/gpu_check.json, or where GPU_CHECK_RESULTS says.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-.venv/bin/python}
images=${1:-}
seconds=${2:-540}
results=${GPU_CHECK_RESULTS:-benchmarks/gpu_check.json}

started=$SECONDS
"$PYTHON" -m pytest -q -m gpu -p no:cacheprovider -W default tests/kernels tests/objectives tests/benchmarks tests/inference/test_inference.py || tests=$?
# Tests that skip because there is no GPU leave pytest content; that none was there at all does not.
left=$((seconds - (SECONDS - started)))
"$PYTHON" benchmarks/gpu_check.py --seconds "$left" --results "$results" --tests-exit "${tests:-0}" ${images:+--images "$images"}
