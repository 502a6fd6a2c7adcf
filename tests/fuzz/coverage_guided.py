"""Every reader under atheris, which keeps the inputs that reach new code: ``make fuzz FUZZ_SECONDS=60`` (a reader).

``python tests/fuzz/coverage_guided.py --seconds 60 --only npz`` runs the readers whose name holds a text. The corpus
grows in ``--corpus`` (by default ``.fuzz``, which git ignores) from the seeds of `fuzz.targets` and the catalogue of
hostile files. The figures are printed as a table. The exit code is 1 if anything but an object or a `CistError` came of
an input; that input is kept beside the corpus, and ``--again FILE`` opens it once more.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.targets import TARGETS, Target


@dataclass(frozen=True)
class Figures:
    target: str
    executions: int
    edges: int
    corpus: int
    finding: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each reader (default: 60)")
    parser.add_argument("--only", default="", metavar="TEXT", help="readers whose name holds this")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"), metavar="FOLDER")
    parser.add_argument("--again", type=Path, metavar="FILE", help="open one input with the reader that --only names")
    options = parser.parse_args()
    targets = [target for target in TARGETS if options.only in target.name]
    if options.again:
        print(targets[0].open(options.again))
        return 0
    print("| Reader | Executions | Edges covered | Corpus | Findings |\n|---|--:|--:|--:|---|", flush=True)
    found = False
    for target in targets:
        figures = run_one(target, options.corpus, options.seconds)
        found |= figures.finding != "none"
        counts = f"{figures.executions:,} | {figures.edges:,} | {figures.corpus:,}"
        print(f"| {figures.target} | {counts} | {figures.finding} |", flush=True)
    return int(found)


def run_one(target: Target, corpus: Path, seconds: int) -> Figures:
    """Fuzz one reader in a process of its own: libFuzzer ends the process that it runs in."""
    folder = corpus / target.name.replace(" ", "-")
    (folder / "inputs").mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate([*target.seeds(), *target.hostile]):
        (folder / "inputs" / f"seed-{index}").write_bytes(seed)
    log = folder / "log.txt"
    command = [sys.executable, str(Path(__file__).with_name("one_reader.py")), target.name, str(folder), str(seconds)]
    with log.open("wb") as stream:
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    text = log.read_text(errors="replace")
    counts = [int(number) for number in re.findall(r"^#(\d+)", text, re.MULTILINE)]
    edges = [int(number) for number in re.findall(r"cov: (\d+)", text)]
    errors = re.findall(
        r"^(?:=== Uncaught Python exception: ===\n)?(\w*(?:Error|Exception)\b.*|.*libFuzzer: .*)$", text, re.MULTILINE
    )
    finding = "none" if code == 0 else f"{errors[-1] if errors else 'see'}: {log}"
    return Figures(
        target.name, max(counts, default=0), max(edges, default=0), len(list((folder / "inputs").iterdir())), finding
    )


if __name__ == "__main__":
    sys.exit(main())
