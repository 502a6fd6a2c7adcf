"""Have SmolLM2 read the sentence of the lesson, and write down what it expected, token by token.

    python -m sample_models.record_sentence

Written are the token set and its words in ``app/lesson/sentence``: the 32 largest logits of each token, and the curves
from which its entropy at any temperature is read, so that the lesson needs neither the model nor transformers.

The sentence stands after a line that says what follows, as sentences do. At the very start of its context a model that
was trained to answer spreads its guesses: without the line "·upon" after "Once" has a probability below 0.0005, with it
0.93. What stands before the sentence, and its first word, do not count.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cist_core.language.inference import infer_tokens
from cist_core.language.known import SMOLLM2
from cist_core.language.models import open_language_model
from cist_core.language.sources import describe_tokens
from cist_core.language.text_predictions import TextPredictions
from cist_core.language.texts import example_of, tokenise_all

FOLDER = Path(__file__).resolve().parents[1] / "app" / "lesson" / "sentence"
TEXT = FOLDER / "text.txt"
BEFORE = "This is a fairy tale.\n\n"


def main() -> None:
    model = open_language_model(SMOLLM2)
    sentence = TEXT.read_text(encoding="utf-8")
    (text,) = tokenise_all([example_of({"text": BEFORE + sentence}, TEXT.name)], model.tokenizer, longest=model.longest)
    counted = text.counted & (text.bytes > 0)  # without the end of the text
    counted[: np.searchsorted(np.cumsum(text.bytes), len(BEFORE.encode()), side="right") + 1] = False
    texts = [text._replace(counted=counted)]
    tokens = infer_tokens(model, texts, cached=False)
    found = TextPredictions.of(describe_tokens(model, texts, tokens), texts, model.tokenizer)
    found.save(FOLDER)
    print(f"{found.num_samples} tokens in {FOLDER}")


if __name__ == "__main__":
    main()
