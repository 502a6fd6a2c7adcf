"""Vocabularies are compared number by number."""

import numpy as np
import pytest

from cist_core import CistError
from cist_core.language.vocabulary import Vocabulary, shared_classes


def test_only_padding_may_differ():
    tokens = {f"t{number}": number for number in range(151_665)}
    teacher, student = Vocabulary.of(tokens, 152_064), Vocabulary.of(tokens, 151_936)
    assert shared_classes(teacher, student).tolist() == list(range(151_936))


def test_the_same_size_is_not_the_same_vocabulary():
    with pytest.raises(
        CistError,
        match=r"\(3 classes\) and the student's \(3\) are not one: 2 numbers differ, first 1 is 'b' in the teacher's "
        r"and 'c' in the student's; 2 is 'c' in the teacher's and 'b'",
    ):
        shared_classes(Vocabulary(("a", "b", "c")), Vocabulary(("a", "c", "b")))


def test_a_token_that_only_one_has_is_no_padding():
    with pytest.raises(CistError, match=r"first 2 is 'c' in the teacher's and no token in the student's"):
        shared_classes(Vocabulary(("a", "b", "c")), Vocabulary(("a", "b")))


def test_a_tokenizer_of_another_model():
    with pytest.raises(CistError, match="'b' is number 7 of the tokenizer, but the model has 4 classes"):
        Vocabulary.of({"a": 0, "b": 7}, 4)
    with pytest.raises(CistError, match="'b' is number 7"):
        Vocabulary.of({"a": 0, "b": 7}, 4, special={"c"})
    with pytest.raises(CistError, match="have one number, 0"):
        Vocabulary.of({"a": 0, "b": 0}, 4)


def test_a_special_token_without_a_class_is_left_out_and_no_text_may_contain_it():
    """Gemma 3 has 262,144 classes, and its tokenizer a place for images after them."""
    found = Vocabulary.of({"a": 0, "<image>": 2}, 2, special={"<image>"})
    assert (found.tokens, found.beyond) == (("a", None), {2: "<image>"})
    found.check_ids(np.array([0, 1]))
    with pytest.raises(CistError, match="contains the token 2, '<image>', but the model has 2 classes; take it out"):
        found.check_ids(np.array([0, 2]))
    assert shared_classes(found, Vocabulary(("a", None, None))).tolist() == [0, 1]


@pytest.mark.parametrize(
    "other",
    [("a", "b", None, "c"), ("a", "b", None, "c", None), ("a", "b", "c"), ("a", None, "b", "c"), ("a", "b"), ()],
)
def test_the_digests_agree_exactly_where_the_vocabularies_are_one(other):
    first, second = Vocabulary(("a", "b", None, "c")), Vocabulary(other)
    try:
        shared_classes(first, second)
    except CistError:
        assert first.sha256 != second.sha256
    else:
        assert first.sha256 == second.sha256
