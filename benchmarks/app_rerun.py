"""The server's share of a slider move: the whole script of a page rerun.

    python benchmarks/app_rerun.py [--sizes 1280000x10 1280000x1000]

Streamlit's own test runner executes the app without a browser; the time is from the moved slider to the last element.
`make bench` does so at 50,000 samples x 100 classes; run by itself, it writes `app_rerun.json`. The larger of its sizes
takes 16 GB of memory to make and 9 GB in the folder of temporary files: two models' logits, and their tables of curves.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from repeated import figures, in_turn
from streaming import logit_blocks
from streamlit.testing.v1 import AppTest

from cist_core.logits.logit_set import LogitSet, centre_for_storage

ROOT = Path(__file__).resolve().parents[1]
TEACHER, STUDENT = "cifar100-resnet20", "cifar100-resnet8"
SAMPLES, CLASSES = 50_000, 100
MOVES = 15
SIZES = ["1280000x10", "1280000x1000"]
IN_ONE = 1 << 28
RESULTS = Path(__file__).with_name("app_rerun.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="SAMPLESxCLASSES")
    options = parser.parse_args()
    measured_on = machine("streamlit", "numpy", "numba")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CIST_CACHE"] = folder
        for size in options.sizes:
            samples, classes = map(int, size.split("x"))
            rows += measure_app(many_logits(samples, classes))
    RESULTS.write_text(json.dumps({"machine": measured_on, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        print(f"{row['name']}, {row['size']}: {row['seconds']:.3f} s, {row['processor_seconds']:.3f} s of processor")


def many_logits(samples: int, classes: int) -> np.ndarray:
    """Rows of `bench.realistic_logits`; very many from `streaming.logit_blocks`, in float16."""
    from bench import realistic_logits  # which imports this module

    if samples * classes <= IN_ONE:
        return realistic_logits(samples, classes)
    return np.concatenate(list(logit_blocks(samples, classes)))


def measure_app(logits: np.ndarray) -> list[dict[str, Any]]:
    """`MOVES` moves of tau on each page, as rows for `results.json`."""
    with tempfile.TemporaryDirectory() as folder:
        write_sample_models(Path(folder), logits)
        os.environ["CIST_SAMPLE_MODELS"] = folder
        try:
            return [
                {
                    "name": f"app: slider move on {page}",
                    "size": "x".join(map(str, logits.shape)),
                    **_timed_move(page),
                    "versus_scipy": None,
                    "versus_torch": None,
                    "versus_read": None,
                    "max_error": None,
                }
                for page in ("overview", "entropy", "ratio")
            ]
        finally:
            del os.environ["CIST_SAMPLE_MODELS"]


def write_sample_models(folder: Path, logits: np.ndarray) -> None:
    """The cards of the shipped 100-class teacher and student over other logits: all that the app needs to show them."""
    labels = np.arange(len(logits)) % logits.shape[1]
    for name, values in ((TEACHER, logits), (STUDENT, np.roll(logits, 1, axis=1) + logits)):
        model = folder / name
        model.mkdir()
        card = json.loads((ROOT / "sample_models" / name / "card.json").read_text(encoding="utf-8"))
        card |= {"num_classes": logits.shape[1], "class_names": [f"class {index}" for index in range(logits.shape[1])]}
        (model / "card.json").write_text(json.dumps(card), encoding="utf-8")
        LogitSet.create(centre_for_storage(values), labels).save(model / "logits-cifar100-test.safetensors")


def _timed_move(page: str) -> dict[str, Any]:
    app = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=120).run()
    if page != "overview":
        app.switch_page(f"../pages/{page}.py").run()
    taus = iter(range(MOVES))

    def move() -> None:
        app.slider(key="tau").set_value(1.0 + 0.05 * next(taus)).run()

    found = figures(in_turn({"move": move}, MOVES)["move"])
    if app.exception:
        raise RuntimeError(f"The {page} page failed: {app.exception[0].value}")
    return found


if __name__ == "__main__":
    main()
