"""What vLLM's server answers and axolotl's data sets hold, written here as their documentation shows it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run
from reference import entropy_at
from scipy.special import log_softmax, softmax

from cist_core import CistError
from cist_core.logits.top_k import is_top_k_file, read_top_k

CLASSES, K = 60, 8
NUMBERED = "token_id:{}".format


@pytest.fixture(scope="module")
def texts():
    """Of two texts: logits of the places of all tokens but the first, and tokens that are drawn from them."""
    generator = np.random.default_rng(11)
    found = []
    for length in (30, 50):
        logits = generator.standard_normal((length, CLASSES)) * 3
        drawn = [int(generator.choice(CLASSES, p=row)) for row in softmax(logits, axis=1)]
        found.append((logits, [5, *drawn]))
    return found


def expected(texts, k=K):
    """The classes and log-probabilities of all places."""
    log_probs = single(np.concatenate([logits for logits, _ in texts]))
    ids = np.argsort(-log_probs, axis=1, kind="stable")[:, :k]
    return ids, np.take_along_axis(log_probs, ids, axis=1)


def single(logits):
    return log_softmax(logits, axis=-1).astype(np.float32).astype(float)


def first(row, k=K):
    return np.argsort(-row, kind="stable")[:k].tolist()


def prompt_logprobs(logits, tokens):
    """None for the first token; then the k first and the token that stands there, whatever its rank."""
    positions = [None]
    for row, token in zip(single(logits), tokens[1:], strict=True):
        order = first(row, CLASSES)
        named = dict.fromkeys([token, *order[:K]])
        positions.append(
            {
                str(each): {"logprob": float(row[each]), "rank": order.index(each) + 1, "decoded_token": "x"}
                for each in named
            }
        )
    return positions


def lists(logits):
    """A text of axolotl: lists of classes and log-probabilities."""
    return [[{"token": NUMBERED(each), "logprob": float(row[each])} for each in first(row)] for row in single(logits)]


def drawn_first(row, token):
    """What vLLM has of a position: the token that was drawn, then the k first."""
    return list(dict.fromkeys([token, *first(row)]))


def chat(logits, tokens):
    """A chat's lists are cut to k, so a token that is none of the k first takes the place of the last of them."""
    content = [
        {
            "token": NUMBERED(token),
            "logprob": float(row[token]),
            "bytes": None,
            "top_logprobs": [
                {"token": NUMBERED(each), "logprob": float(row[each])} for each in drawn_first(row, token)[:K]
            ],
        }
        for row, token in zip(single(logits), tokens[1:], strict=True)
    ]
    return {"choices": [{"message": {"content": "…"}, "logprobs": {"content": content}}], "prompt_logprobs": None}


def completion(logits, tokens):
    top = [
        {NUMBERED(each): float(row[each]) for each in drawn_first(row, token)}
        for row, token in zip(single(logits), tokens[1:], strict=True)
    ]
    logprobs = {"tokens": [NUMBERED(each) for each in tokens[1:]], "top_logprobs": top, "token_logprobs": []}
    return {"choices": [{"text": "…", "logprobs": logprobs, "prompt_logprobs": None}]}


RECORDS = {
    "prompts of chats": lambda *text: {"prompt_logprobs": prompt_logprobs(*text), "choices": [{"logprobs": None}]},
    "prompts of completions": lambda *text: {"choices": [{"prompt_logprobs": prompt_logprobs(*text)}]},
    "chats": chat,
    "completions": completion,
    "a data set": lambda logits, tokens: {"messages": [], "llm_text_generation_vllm_logprobs": lists(logits)},
}


def write(path, records):
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(each) for each in records) + "\n\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(records))
    else:
        pq.write_table(pa.Table.from_pylist(records), path)
    return path


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("ending", ["json", "jsonl"])
def test_answers_and_data_sets_give_the_most_probable_classes(tmp_path, texts, kind, ending):
    path = write(tmp_path / f"answers.{ending}", [RECORDS[kind](*text) for text in texts])
    assert is_top_k_file(path)
    top = read_top_k(path, vocabulary=CLASSES)
    assert top.k == (K - 1 if kind in ("chats", "completions") else K)  # where the last is the token that was drawn
    ids, log_probs = expected(texts, top.k)
    np.testing.assert_array_equal(top.ids, ids)
    np.testing.assert_array_equal(top.log_probs, log_probs)


def test_one_answer_alone_and_what_is_left_out_of_it_is_said(tmp_path, texts):
    path = tmp_path / "answer.json"
    path.write_text(json.dumps(RECORDS["prompts of chats"](*texts[0])))
    top = read_top_k(path, vocabulary=CLASSES)
    assert top.num_samples == 30
    assert top.provenance["layout"] == (
        "'prompt_logprobs' of 1 text, 8 classes a position; where a position has up to 9, the less probable ones "
        "belong to the tail; 1 position without any left out"
    )


def test_a_token_of_the_prompt_beyond_the_first_is_not_taken_for_the_last_of_them(tmp_path, texts):
    """Where each position has one more class than was asked for, only its rank tells."""
    logits, _ = texts[1]
    least = [5, *(int(row.argmin()) for row in logits)]
    top = read_top_k(write(tmp_path / "a.jsonl", [{"prompt_logprobs": prompt_logprobs(logits, least)}]), vocabulary=60)
    np.testing.assert_array_equal(top.ids, expected([texts[1]])[0])
    # Without ranks it is as improbable as it says, which leaves more to the others than they can have.
    rows = prompt_logprobs(logits, least)[1:]
    positions = [{name: {"logprob": each["logprob"]} for name, each in row.items()} for row in rows]
    with pytest.raises(CistError, match="store the k largest, not drawn ones"):
        read_top_k(write(tmp_path / "b.jsonl", [{"prompt_logprobs": positions}]), vocabulary=60)


def test_positions_of_more_classes_are_cut_to_those_that_all_have(tmp_path, texts):
    positions = lists(texts[0][0])
    positions[3] = positions[3][:5]
    positions[7], positions[9] = None, positions[9][:1]
    top = read_top_k(write(tmp_path / "a.jsonl", [{"logprobs": positions}]), vocabulary=CLASSES)
    np.testing.assert_array_equal(top.ids, np.delete(expected(texts[:1], 5)[0], [7, 9], axis=0))
    assert "where a position has up to 8, the less probable ones belong to the tail" in top.provenance["layout"]
    assert "1 position without any left out" in top.provenance["layout"]
    assert "1 position with less than half as many left out" in top.provenance["layout"]


@pytest.mark.parametrize("tau", [0.7, 1.0, 2.0])
def test_the_bounds_hold_the_entropy_of_all_classes(tmp_path, texts, tau):
    top = read_top_k(write(tmp_path / "a.jsonl", [chat(*text) for text in texts]), vocabulary=CLASSES)
    lower, upper = top.entropy_bounds(tau)
    true = entropy_at(np.concatenate([logits for logits, _ in texts]), tau)
    assert (lower <= true + 1e-6).all()
    assert (true <= upper + 1e-6).all()


def test_tokens_that_came_are_compared_with_their_places(tmp_path, texts):
    logits = np.concatenate([logits for logits, _ in texts]) * 4
    drawn = [0, *logits.argmax(axis=1)]
    prompt = {"prompt_logprobs": prompt_logprobs(*texts[0])}  # of which no tokens are known
    read_top_k(write(tmp_path / "a.jsonl", [chat(logits, drawn) | prompt]), vocabulary=CLASSES)
    shifted = [0, 0, *drawn[1:-1]]
    with pytest.raises(CistError, match="the distributions are shifted by one position"):
        read_top_k(write(tmp_path / "b.jsonl", [chat(logits, shifted) | prompt]), vocabulary=CLASSES)


@pytest.mark.parametrize("prepared", [False, True])
def test_data_sets_of_axolotl_are_parquet_too(tmp_path, texts, prepared):
    ids, log_probs = expected(texts)
    ends = np.cumsum([len(logits) for logits, _ in texts])[:-1]
    columns = [part.tolist() for part in (*np.split(ids, ends), *np.split(log_probs, ends))]
    if prepared:
        rows = [
            {
                "target_token_ids": [*text_ids, list(range(K))],
                "target_logprobs": [*values, [-np.inf] * K],
                "target_mask": [*([[1] * K] * len(values)), [0] * K],
                "labels": [0] * (len(values) + 1),
            }
            for text_ids, values in zip(columns[:2], columns[2:], strict=True)
        ]
    else:
        rows = [{"messages": "…", "logprobs": lists(logits)} for logits, _ in texts]
    path = write(tmp_path / "train.parquet", rows)
    assert is_top_k_file(path)
    top = read_top_k(path, vocabulary=CLASSES)
    np.testing.assert_array_equal(top.ids, ids)
    np.testing.assert_array_equal(top.log_probs, log_probs)


def test_of_a_list_with_the_drawn_token_alone_nothing_is_known(tmp_path, texts):
    alone = [chat(*text) for text in texts]
    for answer in alone:
        for each in answer["choices"][0]["logprobs"]["content"]:
            each["top_logprobs"] = [{"token": each["token"], "logprob": each["logprob"]}]
    with pytest.raises(CistError, match="found no log-probabilities"):
        read_top_k(write(tmp_path / "a.json", alone), vocabulary=CLASSES)


def test_what_the_mask_of_axolotl_leaves_out_is_not_read(tmp_path, texts):
    ids, log_probs = expected(texts[:1])
    masked = np.ones(ids.shape, int)
    masked[:, -1] = 0
    ids[:, -1], log_probs[:, -1] = 0, -np.inf  # a place that was filled up
    record = {"target_token_ids": ids.tolist(), "target_logprobs": log_probs.tolist(), "target_mask": masked.tolist()}
    top = read_top_k(write(tmp_path / "a.parquet", [record]), vocabulary=CLASSES)
    np.testing.assert_array_equal(top.ids, expected(texts[:1], K - 1)[0])


def test_what_axolotl_has_renormalised_is_refused(tmp_path, texts):
    ids, log_probs = expected(texts)
    divided = np.log(softmax(log_probs, axis=1))
    path = write(tmp_path / "a.parquet", [{"target_token_ids": ids.tolist(), "target_logprobs": divided.tolist()}])
    with pytest.raises(CistError, match="'target_logprobs' sum to 1 in every row: axolotl divides by their sum"):
        read_top_k(path, vocabulary=CLASSES)
    ragged = {"target_token_ids": ids.tolist(), "target_logprobs": divided.tolist()}
    shorter = np.log(softmax(log_probs[0, :-1])).tolist()  # a row of one class less sums to 1 as well
    ragged["target_token_ids"][0], ragged["target_logprobs"][0] = ids[0, :-1].tolist(), shorter
    with pytest.raises(CistError, match="axolotl divides by their sum"):
        read_top_k(write(tmp_path / "ragged.jsonl", [ragged]), vocabulary=CLASSES)
    np.savez(tmp_path / "a.npz", target_token_ids=ids, target_logprobs=divided)
    with pytest.raises(CistError, match="axolotl divides by their sum"):
        read_top_k(tmp_path / "a.npz", vocabulary=CLASSES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"logprobs": [[{"token": "token_id:1", "logprob": -0.1}]]', "line 1 cannot be read as JSON"),
        ('{"logprobs": [[{"token": " the", "logprob": -0.1}]]}', "line 1: the class ' the' is no 'token_id:NUMBER'"),
        (
            '{"logprobs": [[{"token": "4", "logprob": -0.1}]]}',
            "line 1: the class '4' is no 'token_id:NUMBER'; ask vLLM",
        ),
        ('{"a_logprobs": [[]], "b_logprobs": [[]]}', "several fields of log-probabilities, 'a_logprobs', 'b_logprobs'"),
        ('{"logprobs": [[{"token": "token_id:1"}]]}', "line 1: .*'logprob' is missing"),
        ('{"logprobs": [[{"token": 1, "logprob": "x"}]]}', "line 1: .*'x' is no number"),
        ('{"logprobs": [[-0.1, -3.0]]}', "line 1: .*'target_token_ids' is missing"),
        ('{"logprobs": [[-0.1]], "target_token_ids": [[1, 2]]}', "2 classes and 1 log-probabilities"),
        ('{"logprobs": [null, []]}', "found no log-probabilities; ask vLLM"),
        ('{"choices": [{"logprobs": {"content": [{"token": "token_id:1"}]}}]}', "'top_logprobs' is missing"),
        ('{"prompt_logprobs": [null, {"7": {"rank": 1}}]}', "'logprob' is missing"),
        ('{"prompt_logprobs": [null, {"7": {"rank": 3, "logprob": -1}}]}', "the prompt's own token alone; ask vLLM"),
        ('{"choices": 7, "logprobs": [null]}', "found no log-probabilities; ask vLLM"),
        (
            '{"prompt_logprobs": [null, {"99999999999": {"logprob": -1}}]}',
            "'token_id:99999999999' is no 'token_id:NUMBER'",
        ),
        ('{"logprobs": [[{"token": 1, "logprob": -0.1}, {"token": 1, "logprob": -3}]]}', "sample 0 has one twice"),
        ('{"logprobs": [[{"token": 70, "logprob": -0.1}]]}', "ids from 0 to 59, but found 70"),
    ],
)
def test_what_they_do_not_write_is_named(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_text(content + "\n")
    with pytest.raises(CistError, match=f"a.jsonl: .*{message}"):
        read_top_k(tmp_path / "a.jsonl", vocabulary=CLASSES)


def test_what_stands_beside_is_left_alone(tmp_path, texts):
    """A refused request, a text without any, one number a token, what axolotl prepared, and a prompt once more."""
    logits, tokens = texts[0]
    ids, log_probs = expected(texts[:1])
    prepared = {"target_token_ids": ids.tolist(), "target_logprobs": np.log(softmax(log_probs, axis=1)).tolist()}
    several = {"choices": [{"prompt_logprobs": prompt_logprobs(logits, tokens)}] * 2}
    records = [
        {"error": "too long"},
        {"messages": [], "logprobs": None},
        {"token_logprobs": [-0.1, -0.2], "logprobs": lists(logits), **prepared},
        several,
    ]
    path = write(tmp_path / "a.jsonl", records)
    assert is_top_k_file(path)
    top = read_top_k(path, vocabulary=CLASSES)
    np.testing.assert_array_equal(top.ids, np.concatenate([ids, ids]))
    assert "'logprobs', 'prompt_logprobs' of 2 texts" in top.provenance["layout"]
    assert "2 records without any left out" in top.provenance["layout"]


def test_texts_are_not_taken_for_log_probabilities(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"prompt": "one", "response": "two"}\n')
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "numbers.json").write_text("3")
    assert not any(is_top_k_file(tmp_path / name) for name in ("texts.jsonl", "none.json", "numbers.json"))
    with pytest.raises(CistError, match="from answers of vLLM"):
        read_top_k(tmp_path / "texts.jsonl", vocabulary=3)


def test_the_command_prints_bounds_and_what_was_read(tmp_path, texts, capsys):
    path = write(tmp_path / "answers.jsonl", [chat(*text) for text in texts])
    code, out, err = run(capsys, "analyze", "--logits", str(path), "--vocabulary", str(CLASSES), "--tau", "1")
    assert code == 0
    assert "80 samples, the 7 most probable of 60 classes" in out
    assert "'logprobs' of 2 texts, 7 classes a position" in err
