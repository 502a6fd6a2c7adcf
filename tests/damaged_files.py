"""Files of a run as damage or a strange program may leave them."""

import numpy as np

STATUSES = {
    "a list": b"[1]",
    "text for numbers": b'{"epoch": "three", "epochs": "x", "step": "a", "steps": "b", "state": 5, '
    b'"eta_seconds": "soon", "warnings": "w", "logit_scale": 7, "last_val_accuracy": "0.9", "test_accuracy": "high"}',
    "no finite numbers": b'{"epoch": NaN, "epochs": Infinity, "step": NaN, "steps": NaN, "last_val_accuracy": NaN, '
    b'"test_accuracy": NaN, "eta_seconds": NaN, "updated_at": -Infinity}',
    "nested": b'{"epoch": [[1]], "epochs": {"a": 1}, "step": [], "warnings": [[1], {"a": 2}], '
    b'"logit_scale": {"state": [1]}, "best_epoch": [3], "test_accuracy": [[0.5]], "phase": ["x"], "reason": {"a": 1}}',
    "bytes": bytes(range(256)) * 4,
    "nothing": b"",
    "zeros": bytes(4096),
    "deep": b"[" * 200_000,
    "huge numbers": b'{"epoch": 1'
    + b"0" * 400
    + b', "epochs": 1e308, "pid": -4, "test_accuracy": 1'
    + b"0" * 400
    + b"}",
    "shares beyond 1": b'{"test_accuracy": 7.5e8, "last_val_accuracy": -3, "test_agreement": 2}',
    "half a character": b'{"reason": "\\ud800", "phase": "\\udfff", "warnings": ["\\ud800"]}',
    "not finite in an unknown field": b'{"of a later version": {"loss": [NaN]}, "of another": -Infinity}',
    "booleans": b'{"epoch": true, "epochs": false, "test_accuracy": true, "logit_scale": true}',
}
METRICS = {
    "text for numbers": b'{"epoch": "1", "step": "2", "val_accuracy": "x", "student_maximum_mean": "y"}\n',
    "no finite numbers": b'{"epoch": 1, "step": 20, "val_accuracy": NaN, "student_maximum_mean": Infinity}\n',
    "no objects": b'[1, 2]\n5\nnull\n"x"\n',
    "nested": b'{"epoch": [1], "step": {"a": 1}, "val_accuracy": [[1]], "student_maximum_mean": [2]}\n',
    "bytes": bytes(range(256)) + b"\n",
    "deep": b"[" * 200_000 + b"\n",
    "without what counts": b'{"epoch": 1, "step": 2}\n{}\n',
    "shares beyond 1": b'{"epoch": 1, "step": 2, "val_accuracy": 9.5, "student_maximum_mean": 1}\n',
}


def with_flipped_bits(content: bytes, count: int, rng: np.random.Generator) -> bytes:
    """The same bytes, but a bit of so many is another."""
    flipped = np.frombuffer(content, np.uint8).copy()
    places = rng.choice(len(flipped), count, replace=False)
    flipped[places] ^= np.uint8(1) << rng.integers(0, 8, count).astype(np.uint8)
    return flipped.tobytes()
