"""The k most probable classes: bounds that hold whatever the others are, and that no better ones are claimed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import entropy_at
from safetensors.numpy import save_file
from scipy.optimize import minimize
from scipy.special import entr, log_softmax, softmax

from cist_core import CistError, read_logits
from cist_core.logits.top_k import TopK, is_top_k_file, read_top_k

TAUS = (0.25, 0.5, 1.0, 2.0, 4.0, 20.0)


def top_of(logits, k, dtype=np.float64):
    """The k most probable classes of complete logits."""
    log_probs = log_softmax(np.asarray(logits, np.float64), axis=1)
    ids = np.argsort(-log_probs, axis=1)[:, :k]
    return ids, np.take_along_axis(log_probs, ids, axis=1).astype(dtype)


@given(
    classes=st.integers(2, 60),
    data=st.data(),
    scale=st.floats(0.01, 30.0),
    seed=st.integers(0, 2**32 - 1),
    tau=st.sampled_from(TAUS),
    stored_mass=st.booleans(),
)
def test_complete_logits_lie_inside(classes, data, scale, seed, tau, stored_mass):
    k = data.draw(st.integers(1, classes))
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((8, classes)) * scale
    logits[:3] = np.round(logits[:3])  # ties
    ids, log_probs = top_of(logits, k)
    rest = np.sort(np.exp(log_softmax(logits, axis=1)), axis=1)[:, : classes - k].sum(axis=1)
    top = TopK.create(ids, log_probs, vocabulary=classes, remaining=rest if stored_mass else None)
    lower, upper = top.entropy_bounds(tau)
    true = entropy_at(logits, tau)
    assert (lower <= true + 1e-7).all()
    assert (true <= upper + 1e-7).all()
    assert (lower >= 0).all()
    assert (upper <= math.log(classes) + 1e-9).all()


def test_all_classes_leave_no_width(logits):
    ids, log_probs = top_of(logits, 10)
    lower, upper = TopK.create(ids, log_probs, vocabulary=10).entropy_bounds(3.0)
    np.testing.assert_allclose(lower, entropy_at(logits, 3.0), rtol=0, atol=1e-10)
    np.testing.assert_allclose(upper, lower, rtol=0, atol=1e-10)


def _extremes(seen, mass, unseen, beta):
    """The least and greatest entropy over all ways to share the mass out, by SLSQP from many starts."""
    last = seen[-1]

    def entropy(rest):
        powers = np.concatenate([seen, np.clip(rest, 1e-300, None)]) ** beta
        return entr(powers / powers.sum()).sum()

    rng = np.random.default_rng(0)
    starts = [np.full(unseen, mass / unseen)]
    starts += [
        np.clip(rng.dirichlet(np.full(unseen, spread)) * mass, 0, last) for spread in (0.05, 0.3, 1.0) for _ in "12345"
    ]
    packed = np.zeros(unseen)
    full = int(mass / last)
    packed[:full] = last
    packed[full : full + 1] = mass - full * last
    found = [entropy(packed), entropy(starts[0])]
    constraint = {"type": "eq", "fun": lambda rest: rest.sum() - mass}
    for sign in (1, -1):
        for start in starts:
            solution = minimize(
                lambda rest, sign=sign: sign * entropy(rest),
                start,
                bounds=[(1e-12, last)] * unseen,
                constraints=[constraint],
                method="SLSQP",
                options={"maxiter": 60},
            )
            if abs(solution.x.sum() - mass) < 1e-9:
                found.append(entropy(solution.x))
    return min(found), max(found)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("seen", [[0.6, 0.25], [0.3, 0.2, 0.15], [0.9, 0.04]])
def test_bounds_against_the_extremes_that_an_optimiser_finds(seen, tau):
    seen, unseen = np.array(seen), 5
    mass = 1 - seen.sum()
    top = TopK.create([range(len(seen))], np.log([seen]), vocabulary=len(seen) + unseen)
    lower, upper = (side.item() for side in top.entropy_bounds(tau))
    least, most = _extremes(seen, mass, unseen, 1 / tau)
    assert lower <= least + 1e-7
    assert upper >= most - 1e-7
    # Not only true but close: the even share is possible, and the upper bound is it where that has the largest sum.
    assert upper - most < (1e-6 if tau >= 1 else 0.25)
    if tau >= 1:
        assert least - lower < 0.1


def test_bounds_by_a_grid_over_two_unseen_classes():
    seen, tau = np.array([0.5, 0.3]), 3.0
    rest = np.linspace(0, 0.2, 20_001)
    rows = np.stack([np.full_like(rest, 0.5), np.full_like(rest, 0.3), rest, 0.2 - rest], axis=1) ** (1 / tau)
    entropies = entr(rows / rows.sum(axis=1, keepdims=True)).sum(axis=1)
    lower, upper = (side.item() for side in TopK.create([[0, 1]], np.log([seen]), vocabulary=4).entropy_bounds(tau))
    assert entropies.min() - 0.05 < lower <= entropies.min() + 1e-9
    assert entropies.max() - 1e-9 <= upper < entropies.max() + 1e-6


def test_a_tail_of_nothing_and_one_beyond_float64_stay_finite():
    top = TopK.create([[0, 1], [0, 1]], [[-1e-300, -900.0], [math.log(0.5), math.log(0.5)]], vocabulary=100)
    for tau in (0.01, 1.0, 1e6):
        lower, upper = top.entropy_bounds(tau)
        assert np.isfinite(lower).all()
        assert np.isfinite(upper).all()
        assert (lower <= upper).all()


@pytest.mark.parametrize("stored", ["one minus the sum", "the tail", "nothing"])
@pytest.mark.parametrize(("kind", "tolerance"), [("f8", 1e-9), ("f4", 1e-6), ("f2", 5e-3)])
def test_the_truth_lies_inside_whatever_type_and_mass_people_store(kind, tolerance, stored):
    rng = np.random.default_rng(1)
    for _ in range(300):
        classes = int(rng.integers(2, 9))
        logits = rng.normal(size=(1, classes)) * rng.choice([0.1, 1, 5, 15])
        ids, log_probs = top_of(logits, int(rng.integers(1, classes + 1)))
        kept = log_probs.astype(kind)
        tail = np.sort(np.exp(log_softmax(logits, axis=1)), axis=1)[:, : classes - kept.shape[1]].sum(axis=1)
        less = np.maximum(1 - np.exp(kept).sum(axis=1, dtype=kind), 0)
        mass = {"one minus the sum": less.astype(kind), "the tail": tail.astype(kind), "nothing": None}[stored]
        top = TopK.create(ids, kept, vocabulary=classes, remaining=mass)
        for tau in (0.25, 1.0, 4.0):
            lower, upper = top.entropy_bounds(tau)
            true = entropy_at(logits, tau)
            assert lower - tolerance <= true <= upper + tolerance


def test_rows_are_sorted_together():
    top = TopK.create([[7, 2, 4]], np.log([[0.1, 0.6, 0.2]]), vocabulary=9)
    assert top.ids.tolist() == [[2, 4, 7]]
    np.testing.assert_allclose(np.exp(top.log_probs), [[0.6, 0.2, 0.1]])


IDS, LOG_PROBS = [[0, 1], [2, 1]], np.log([[0.6, 0.3], [0.5, 0.4]])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ids": [[0, 0], [2, 1]]}, "Expected different ids in each row, but sample 0 has one twice"),
        ({"ids": [[0, 5], [2, 1]]}, "Expected ids from 0 to 4, but found 5; give the vocabulary"),
        ({"ids": [[0, -1], [2, 1]]}, "Expected ids from 0 to 4, but found -1"),
        ({"ids": [[0.0, 1.0], [2.0, 1.0]]}, "Expected ids to be whole numbers, but got the type float64"),
        ({"ids": [0, 1]}, r"Expected ids of the shape \(samples, k\), but got \(2,\)"),
        ({"ids": [[0, 1]]}, r"Expected ids and log-probabilities of one shape, but got \(1, 2\), \(2, 2\)"),
        ({"log_probs": -LOG_PROBS}, "at most 0, but sample 0 has 1.204; these may be logits"),
        ({"log_probs": LOG_PROBS / 9}, "sum to at most 1, but those of sample 1 have 1.829"),
        ({"log_probs": [[-0.5, -np.inf], [-1.0, -1.0]]}, "finite log-probabilities, but sample 0 holds"),
        ({"log_probs": [[-0.5, np.nan], [-1.0, -1.0]]}, "finite log-probabilities, but sample 0 holds"),
        ({"log_probs": [[-1, -2], [-1, -2]]}, "of the type int64"),
        ({"remaining": [0.1, 0.5]}, "remaining mass to sum to 1, but those of sample 1 sum to 0.9 and 0.5"),
        ({"remaining": [0.1]}, "Expected a remaining mass for each of the 2 samples"),
        ({"remaining": [0.1, np.nan]}, "sum to 1, but those of sample 1"),
        ({"log_probs": np.log([[0.3, 0.05], [0.5, 0.4]])}, "sample 0 leave a mass of 0.65, more than the 0.15 that"),
    ],
)
def test_what_cannot_be_the_most_probable_classes_is_refused(changed, message):
    given = {"ids": IDS, "log_probs": LOG_PROBS, **changed}
    with pytest.raises(CistError, match=message):
        TopK.create(given.pop("ids"), given.pop("log_probs"), vocabulary=5, **given)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(tau):
    with pytest.raises(CistError, match="Expected the temperature to be a positive number"):
        TopK.create(IDS, LOG_PROBS, vocabulary=5).entropy_bounds(tau)


WRITERS = {
    "t.npz": np.savez,
    "t.safetensors": lambda path, **arrays: save_file({name: np.asarray(each) for name, each in arrays.items()}, path),
    "t.pt": lambda path, **arrays: torch.save({k: torch.from_numpy(np.asarray(v)) for k, v in arrays.items()}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_open_and_are_no_logits(tmp_path, name):
    ids, log_probs = top_of(np.random.default_rng(0).standard_normal((6, 20)), 4, np.float32)
    WRITERS[name](tmp_path / name, topk_ids=ids, topk_logprobs=log_probs, vocab_size=np.array(20))
    top = read_top_k(tmp_path / name)
    assert (top.num_samples, top.k, top.vocabulary) == (6, 4, 20)
    assert is_top_k_file(tmp_path / name)
    with pytest.raises(CistError, match=f"{name}: this holds the 4 most probable classes.*--vocabulary V"):
        read_logits(tmp_path / name)


def test_half_precision_keeps_the_truth_inside(logits):
    ids, log_probs = top_of(logits, 4, np.float16)
    lower, upper = TopK.create(ids, log_probs, vocabulary=10).entropy_bounds(2.0)
    true = entropy_at(logits, 2.0)
    assert (lower <= true + 5e-3).all()
    assert (true <= upper + 5e-3).all()


def test_tokens_with_a_mask(tmp_path):
    ids, log_probs = top_of(np.random.default_rng(0).standard_normal((6, 20)), 4)
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    remaining = 1 - np.exp(log_probs).sum(axis=1)
    shaped = {"ids": ids.reshape(2, 3, 4), "log_probs": log_probs.reshape(2, 3, 4)}
    np.savez(tmp_path / "t.npz", mask=mask, remaining=remaining.reshape(2, 3), **shaped)
    top = read_top_k(tmp_path / "t.npz", vocabulary=20)
    np.testing.assert_array_equal(top.ids, ids[[0, 1, 3]])
    np.testing.assert_allclose(top.remaining.mean(axis=1), remaining[[0, 1, 3]])
    assert top.provenance["tokens"].startswith("3 of 6 positions of 2 sequences")


@pytest.mark.parametrize(
    ("arrays", "vocabulary", "message"),
    [
        ({}, None, "the number of classes is not in it; give it with --vocabulary V"),
        ({"vocabulary": np.array(9)}, 5, "it has a vocabulary of 9 classes, but 5 were given"),
        ({"vocabulary": np.array([5, 5])}, None, "Expected the vocabulary to be one whole number"),
        ({"log_probs": LOG_PROBS[:1]}, 5, "not 'ids' and 'log_probs', both"),
    ],
)
def test_files_that_do_not_say_enough_are_refused(tmp_path, arrays, vocabulary, message):
    np.savez(tmp_path / "t.npz", **{"ids": IDS, "log_probs": LOG_PROBS, **arrays})
    with pytest.raises(CistError, match=f"t.npz.*{message}"):
        read_top_k(tmp_path / "t.npz", vocabulary=vocabulary)


def test_other_files_are_not_taken_for_the_most_probable_classes(tmp_path):
    np.savez(tmp_path / "a.npz", logits=LOG_PROBS)
    (tmp_path / "b.npz").write_bytes(b"nothing")
    (tmp_path / "c.csv").write_text("a,b\n1,2\n")
    assert not any(is_top_k_file(tmp_path / name) for name in ("a.npz", "b.npz", "c.csv", "none.npz"))
    with pytest.raises(CistError, match=r"c.csv holds no named arrays"):
        read_top_k(tmp_path / "c.csv", vocabulary=3)
    (tmp_path / "d.jsonl").write_text('{"text": "nothing of a server"}\n')
    with pytest.raises(
        CistError, match=r"d.jsonl holds no named arrays, nor log-probabilities in its first 100 records"
    ):
        read_top_k(tmp_path / "d.jsonl", vocabulary=3)
    with pytest.raises(CistError, match="There is no file"):
        read_top_k(tmp_path / "none.npz", vocabulary=3)


def test_places_that_no_row_fills_are_left_out(logits):
    """Asked for 8 classes, a server that gives 4 leaves the others at -inf, with any ids."""
    ids, log_probs = top_of(logits, 4)
    padded = np.concatenate([np.full_like(log_probs, -np.inf), log_probs], axis=1)
    top = TopK.create(np.concatenate([np.zeros_like(ids), ids], axis=1), padded, vocabulary=10)
    np.testing.assert_array_equal(top.ids, ids)
    assert top.provenance == {"left out": "4 of 8 places in every row, which hold -inf"}
    padded[0, -1] = -np.inf  # one row with fewer than the others
    with pytest.raises(CistError, match="Expected finite log-probabilities, but sample 0"):
        TopK.create(np.tile(np.arange(8), (len(ids), 1)), padded, vocabulary=10)


@pytest.mark.parametrize("unfilled", [0, -1], ids=["id-0", "id-minus-1"])
def test_of_128_places_only_20_log_probabilities_are_valid(tmp_path, unfilled):
    """A server that gives 20 leaves 108 places of a trainer's 128; the bounds are those of the 20, tail included."""
    logits = 3 * np.random.default_rng(0).standard_normal((6, 5_000))
    few_ids, few = top_of(logits, 20, np.float32)
    ids, log_probs = np.full((6, 128), unfilled), np.full((6, 128), -np.inf, np.float32)
    ids[:, :20], log_probs[:, :20] = few_ids, few
    np.savez(tmp_path / "t.npz", token_ids=ids.reshape(2, 3, 128), logprobs=log_probs.reshape(2, 3, 128))
    top = read_top_k(tmp_path / "t.npz", vocabulary=5_000)
    assert (top.num_samples, top.k) == (6, 20)
    assert top.provenance["left out"] == "108 of 128 places in every row, which hold -inf"
    np.testing.assert_array_equal(top.ids, few_ids)
    beyond = 1 - np.exp(few.astype(np.float64)).sum(axis=1)
    assert beyond.min() > 0.3
    np.testing.assert_allclose(top.remaining.mean(axis=1), beyond, atol=1e-6)
    alone = TopK.create(few_ids, few, vocabulary=5_000)
    for tau in TAUS:
        lower, upper = top.entropy_bounds(tau)
        true = entropy_at(logits, tau)
        assert (lower <= true + 1e-5).all()
        assert (true <= upper + 1e-5).all()
        np.testing.assert_array_equal((lower, upper), alone.entropy_bounds(tau))


@pytest.mark.parametrize(
    "names", [("top_indices", "top_values"), ("token_ids", "top_values"), ("target_token_ids", "target_logprobs")]
)
def test_the_names_that_distillation_programs_give_are_known(tmp_path, names):
    ids, log_probs = top_of(np.random.default_rng(0).standard_normal((6, 20)), 4, np.float32)
    np.savez(tmp_path / "t.npz", **dict(zip(names, (ids, log_probs), strict=True)))
    assert read_top_k(tmp_path / "t.npz", vocabulary=20).k == 4


@pytest.mark.parametrize(("shift", "which"), [(1, "next"), (-1, "previous")])
def test_log_probabilities_shifted_by_one_position_are_noticed(shift, which):
    generator = np.random.default_rng(0)
    logits = 6 * generator.standard_normal((400, 20))
    tokens = np.array([generator.choice(20, p=row) for row in softmax(logits, axis=1)])
    ids, log_probs = top_of(logits, 4)
    top = TopK.create(ids, log_probs, vocabulary=20)
    top.check_tokens(tokens)
    with pytest.raises(CistError, match=f"and the {which} row's token in .* shifted by one position"):
        top.check_tokens(np.roll(tokens, shift))
    with pytest.raises(CistError, match="Expected 400 whole numbers"):
        top.check_tokens(tokens[1:])
