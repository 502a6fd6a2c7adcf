"""One reader under atheris: ``python tests/fuzz/one_reader.py NAME FOLDER SECONDS``; see `coverage_guided`."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

INSTRUMENTED = [
    "cist_core",
    "numpy.lib",
    "PIL",
    "pandas.io",
    "torch.serialization",
    "torch._weights_only_unpickler",
    "yaml",
]
"""The readers and the Python parts of what they call. Native code (pyarrow, safetensors, Pillow's decoders, ONNX
Runtime) is driven, but its branches are not counted."""
MEMORY_MIB = 3072
SLOWEST = 60
"""Seconds for one input."""


def main(name: str, folder: str, seconds: str) -> None:
    """Run libFuzzer in this process; it does not return."""
    warnings.simplefilter("ignore")
    scratch = Path(tempfile.mkdtemp())
    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        from fuzz.mutations import KINDS, Edit, apply
        from fuzz.targets import LONGEST, TARGETS

        from cist_core.errors import CistError

        target = next(target for target in TARGETS if target.name == name)
        path = scratch / f"file{target.ending}"

        def once(content: bytes) -> None:
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            with contextlib.suppress(CistError):
                target.open(path)

        for seed in (*target.seeds(), *target.hostile):  # imports whatever the reader imports on demand
            once(seed)

    def edit(source: random.Random) -> Edit:
        lures = (b"0" * 9, b"-1", b"1e999", b"'", b"[" * 60, b"nan", source.randbytes(source.randint(0, 12)))
        return Edit(
            source.choice(KINDS), source.random(), source.randint(0, 255), source.choice(lures), source.randint(0, 9)
        )

    def mutate(content: bytes, longest: int, seed: int) -> bytes:
        """Half of the changes know what a ZIP file is; libFuzzer's own hardly ever keep its checksums right."""
        source = random.Random(seed)
        if source.random() < 0.5:
            changed: bytes = atheris.Mutate(content, longest)
            return changed
        return apply(content, [edit(source) for _ in range(source.randint(1, 3))])[:longest]

    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-timeout={SLOWEST}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        f"{folder}/inputs",
    ]
    atheris.Setup([sys.argv[0], *arguments], once, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
