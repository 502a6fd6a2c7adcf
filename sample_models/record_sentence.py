"""Have SmolLM2 read the sentence of the lesson, and write down what it expected, token by token.

    python -m sample_models.record_sentence

Written are the token set and its words in ``app/lesson/sentence``: the 32 largest logits of each token, and the curves
from which its entropy at any temperature is read, so that the lesson needs neither the model nor transformers.
"""

from __future__ import annotations

from pathlib import Path

from cist_core.language.inference import infer_tokens
from cist_core.language.known import SMOLLM2
from cist_core.language.models import open_language_model
from cist_core.language.sources import describe_tokens
from cist_core.language.text_predictions import TextPredictions
from cist_core.language.texts import load_texts, tokenise_all

FOLDER = Path(__file__).resolve().parents[1] / "app" / "lesson" / "sentence"
TEXT = FOLDER / "text.txt"


def main() -> None:
    model = open_language_model(SMOLLM2)
    texts = tokenise_all(load_texts(TEXT), model.tokenizer, longest=model.longest)
    texts = [text._replace(counted=text.counted & (text.bytes > 0)) for text in texts]  # without the end of the text
    tokens = infer_tokens(model, texts, cached=False)
    found = TextPredictions.of(describe_tokens(model, texts, tokens), texts, model.tokenizer)
    found.save(FOLDER)
    print(f"{found.num_samples} tokens in {FOLDER}")


if __name__ == "__main__":
    main()
