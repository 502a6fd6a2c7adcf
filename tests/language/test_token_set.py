"""A token set against float64 SciPy of the logits that it was made from."""

import tracemalloc

import numpy as np
import pytest
import torch
from reference import centred_maximum, entropy_at, entropy_at_cist
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.special import log_softmax, rel_entr, softmax

from cist_core import CistError, EntropyCurves, EntropyProfile, LogitSet, parse_rule
from cist_core.checksums import CHECKSUM
from cist_core.compare.matching import matched_pair
from cist_core.compare.recommendation import recommend_rho
from cist_core.compare.rho_curves import rho_sweep
from cist_core.compare.slider_grid import LANGUAGE_RHO_RANGE, slider_grid
from cist_core.language.analysis import TOP, token_pair, token_set
from cist_core.language.token_set import TokenFacts, TokenPair, TokenSet
from cist_core.temperature import Cist, Fixed
from cist_core.temperature.readings import read_rule
from cist_core.temperature.weights import SampleWeights

RNG = np.random.default_rng(11)
VOCABULARY, TOKENS = 3000, 60


def language_logits(tokens=TOKENS, vocabulary=VOCABULARY, seed=0):
    """Sure and unsure tokens, as of a language model: a wide bell, and a few tokens far above it."""
    rng = np.random.default_rng(seed)
    logits = 2.2 * rng.standard_normal((tokens, vocabulary))
    likely = rng.integers(0, vocabulary, (tokens, 12))
    np.put_along_axis(logits, likely, 6 + rng.uniform(0, 10, (tokens, 1)) * rng.random((tokens, 12)), axis=1)
    return logits.astype(np.float32)


def facts_of(tokens=TOKENS, vocabulary=VOCABULARY, seed=1):
    rng = np.random.default_rng(seed)
    return TokenFacts(
        rng.integers(0, vocabulary, tokens),
        np.repeat(np.arange(2), [tokens // 2, tokens - tokens // 2]),
        np.concatenate([np.arange(1, tokens // 2 + 1), np.arange(1, tokens - tokens // 2 + 1)]),
        np.where(np.arange(tokens) % 3 == 0, "prompt", "response"),
        np.arange(tokens) % 3 != 0,
    )


def part_of(facts, rows):
    return TokenFacts(*(column[rows] for column in facts))


def made(logits, facts, chunk=17, **options):
    parts = (slice(start, start + chunk) for start in range(0, len(logits), chunk))
    return token_set(((logits[rows], part_of(facts, rows)) for rows in parts), count=len(logits), **options)


@pytest.fixture(scope="module")
def logits():
    return language_logits()


@pytest.fixture(scope="module")
def found(logits):
    return made(logits, facts_of(), provenance={"teacher": "a bell", "precision": "float32"})


def test_statistics_nll_and_rank(logits, found):
    exact = logits.astype(np.float64)
    ids = facts_of().ids
    rows = np.arange(TOKENS)
    log_p = log_softmax(exact, axis=1)
    np.testing.assert_allclose(found.nll, -log_p[rows, ids], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(found.rank, 1 + (exact > exact[rows, ids][:, None]).sum(axis=1))
    np.testing.assert_allclose(found.log_sum_exp, exact[:, 0] - log_p[:, 0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.mean, exact.mean(axis=1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(found.statistics.maximum, centred_maximum(logits), rtol=1e-5)
    np.testing.assert_allclose(found.entropy, entropy_at(logits, 1.0), rtol=0, atol=1e-4)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :TOP]
    np.testing.assert_array_equal(found.top_ids, order)
    np.testing.assert_array_equal(found.statistics.top1, exact.argmax(axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_entropies_agree_with_scipy_from_temperature_one_on(dtype):
    logits = language_logits().astype(dtype)
    curves = made(logits, facts_of()).curves(counted_only=False)
    for tau in (1.0, 1.4, 4.0, np.linspace(1, 20, TOKENS)):
        np.testing.assert_allclose(curves.at_temperature(tau), entropy_at(logits, tau), rtol=0, atol=1e-4)
    for rho in (2.0, 9.0, 17.0, 30.0):
        expected = entropy_at_cist(logits, rho)
        np.testing.assert_allclose(parse_rule(f"cist:rho={rho}").entropy(curves), expected, rtol=0, atol=1e-4)


def test_soft_labels_at_any_temperature(logits, found):
    exact = logits.astype(np.float64)
    ids = facts_of().ids
    rows = np.arange(TOKENS)
    per_token = np.linspace(0.6, 12, TOKENS)
    for tau in (0.5, 1.0, 1.7, 4.0, 20.0, per_token):
        p = softmax(exact / np.broadcast_to(tau, TOKENS)[:, None], axis=1)
        read = found.soft_labels(tau)
        expected = np.take_along_axis(p, found.top_ids.astype(int), 1)
        np.testing.assert_allclose(read.top, expected, rtol=0, atol=1e-4)
        np.testing.assert_allclose(read.actual, p[rows, ids], rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(read.tail, 1 - expected.sum(axis=1), rtol=0, atol=1e-4)
        np.testing.assert_allclose(found.surprisal(tau), -np.log(p[rows, ids]), rtol=0, atol=1e-4)
    some = np.array([3, 40])
    np.testing.assert_allclose(found.soft_labels(2.0, some).top, found.soft_labels(2.0).top[some], rtol=1e-12)


def test_a_vocabulary_smaller_than_what_is_kept_has_no_tail():
    logits = language_logits(5, 20)
    read = made(logits, facts_of(5, 20)).soft_labels(3.0)
    assert read.top.shape == (5, 20)
    np.testing.assert_allclose(read.top.sum(axis=1), 1, rtol=1e-4)
    assert not read.tail.any()


def test_constant_logits_are_uniform_at_every_temperature():
    found = made(np.full((3, 50), 2.5, np.float32), facts_of(3, 50))
    read = found.soft_labels(0.01)
    np.testing.assert_allclose(read.actual, 1 / 50, rtol=1e-6)
    np.testing.assert_allclose(read.tail, 18 / 50, rtol=1e-5)
    np.testing.assert_allclose(found.entropy, np.log(50), rtol=1e-6)


def test_only_counted_tokens_enter_the_statistics(logits, found):
    """And a prompt whose logits are others changes nothing."""
    facts = facts_of()
    curves = found.curves()
    assert curves.num_samples == facts.counted.sum()
    assert found.curves(counted_only=False).num_samples == TOKENS
    exact = EntropyCurves.from_logits(LogitSet.create(logits[facts.counted], facts.ids[facts.counted]))
    for rule in map(parse_rule, ("tau=1.5", "cist:rho=17", "normkd:k=1", "lskd:tau=2")):
        ours, theirs = EntropyProfile.of(rule, curves), EntropyProfile.of(rule, exact)
        assert ours.mean == pytest.approx(theirs.mean, abs=1e-4)
        assert ours.std == pytest.approx(theirs.std, abs=1e-4)
        assert ours.at_floor == theirs.at_floor
    np.testing.assert_array_equal(curves.correct, exact.correct)
    pair, expected = (matched_pair(of, tau=1.5) for of in (curves, exact))
    assert pair.rho == pytest.approx(expected.rho, rel=1e-3)

    perturbed = logits.copy()
    perturbed[~facts.counted] += RNG.normal(size=(int((~facts.counted).sum()), VOCABULARY)).astype(np.float32)
    again = made(perturbed, facts).curves()
    np.testing.assert_array_equal(again.at_temperature(1.5), curves.at_temperature(1.5))


def test_where_no_token_counts_there_is_no_statistic():
    facts = facts_of(4, 50)._replace(counted=np.zeros(4, np.bool_))
    with pytest.raises(CistError, match="None of the 4 tokens counts; give texts with a response"):
        made(language_logits(4, 50), facts).curves()


@pytest.mark.parametrize("chunk", [1, 7, TOKENS])
def test_chunks_and_tensors_make_no_difference(logits, found, chunk):
    other = made(torch.from_numpy(logits), facts_of(), chunk=chunk)
    np.testing.assert_allclose(other.soft_labels(1.3).top, found.soft_labels(1.3).top, rtol=1e-5)
    np.testing.assert_array_equal(other.rank, found.rank)


# ---- tokens of the vocabulary that take no part ----------------------------------------------------------------------


@pytest.mark.parametrize("places", [slice(2700, 3000), slice(100, 140)], ids=["at the end", "in the middle"])
@pytest.mark.parametrize("mask", [-1e4, -65504.0, -np.inf])
def test_masked_tokens_of_the_vocabulary_are_left_out_and_named(logits, mask, places):
    gone = np.arange(VOCABULARY)[places]
    kept = np.delete(np.arange(VOCABULARY), gone)
    facts = facts_of()
    facts = facts._replace(ids=kept[facts.ids % len(kept)])
    masked = logits.copy()
    masked[:, gone] = mask
    found = made(masked, facts)
    assert (found.num_classes, found.left_out) == (len(kept), tuple(gone.tolist()))
    assert f"{len(gone)} of 3,000" in found.provenance["absent classes"]
    np.testing.assert_allclose(found.statistics.maximum, centred_maximum(logits[:, kept]), rtol=0, atol=1e-5)
    p = softmax(logits[:, kept].astype(np.float64) / 2, axis=1)
    np.testing.assert_allclose(found.soft_labels(2.0).actual, p[np.arange(TOKENS), np.searchsorted(kept, facts.ids)],
                               rtol=1e-3)  # fmt: skip
    assert np.isin(found.top_ids, kept).all()
    curves = found.curves(counted_only=False)
    np.testing.assert_array_equal(kept[curves.labels], facts.ids)
    np.testing.assert_array_equal(kept[curves.statistics.top1], masked.argmax(axis=1))


def test_other_masks_in_a_later_chunk_are_refused(logits):
    facts = facts_of()._replace(ids=np.full(TOKENS, 5))
    first, later = logits.copy(), logits.copy()
    first[:17, 2000:] = -np.inf
    with pytest.raises(
        CistError, match=r"masked in the first chunk has the logit .* starts with token 17; mask the same"
    ):
        made(first, facts)
    later[17:, 2000:] = -1e4
    with pytest.raises(CistError, match=r"1,000 tokens of the vocabulary \(2000, 2001.*starts with token 17 and take"):
        made(later, facts)
    with pytest.raises(CistError, match="Token 0 has the id 2500, which is masked"):
        made(first[:17], part_of(facts._replace(ids=np.full(TOKENS, 2500)), slice(17)))


def test_numbers_like_masks_are_said_where_all_tokens_have_them(logits):
    facts = facts_of()._replace(ids=np.full(TOKENS, 5))
    masked = logits.copy()
    masked[:, 7] = -500.0
    found = made(masked, facts)
    assert found.left_out == ()
    assert found.provenance["like masks"].startswith("1 class (7) has the logit -500 in every sample")
    assert "the averages are of the first 17" in found.provenance["like masks"]
    masked[30, 7] = -1.0
    assert "like masks" not in made(masked, facts).provenance


# ---- refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": np.arange(3)}, r"Expected ids of the shape \(4,\), one for each row of logits, but got \(3,\)"),
        ({"ids": np.full(4, 50)}, "Expected ids of tokens as whole numbers from 0 to 49, but got 50"),
        ({"positions": np.full(4, -1)}, "Expected positions of tokens as whole numbers from 0"),
        ({"counted": np.ones(4)}, "Expected counted of tokens to be boolean, but got float64"),
    ],
)
def test_facts_that_do_not_fit_say_why(change, message):
    with pytest.raises(CistError, match=message):
        token_set([(language_logits(4, 50), facts_of(4, 50)._replace(**change))], count=4)


def test_more_or_fewer_tokens_than_said_are_refused():
    chunk = language_logits(4, 50), facts_of(4, 50)
    with pytest.raises(CistError, match="Expected 9 tokens, but only 8 came"):
        token_set([chunk, chunk], count=9)
    with pytest.raises(CistError, match="Expected 5 tokens, but at least 8 came"):
        token_set([chunk, chunk], count=5)
    with pytest.raises(CistError, match="vocabulary of the first, 50 tokens, but token 4 starts a chunk with 49"):
        token_set([chunk, (language_logits(4, 49), facts_of(4, 49))], count=8)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_logit_that_is_not_finite_is_told_by_its_token(value):
    first, second = language_logits(4, 50), language_logits(4, 50)
    second[2, 9] = value
    with pytest.raises(CistError, match=rf"those of token 6 have {value} at place 9; compute the model in float32"):
        token_set([(first, facts_of(4, 50)), (second, facts_of(4, 50))], count=8)
    second[2] = -np.inf
    with pytest.raises(CistError, match=r"starts with token 4: Every logit of sample 2 is -inf"):
        token_set([(first, facts_of(4, 50)), (second, facts_of(4, 50))], count=8)


def test_a_temperature_beyond_the_table_is_refused(found):
    lowest = float(found.statistics.maximum.max()) / 64
    found.soft_labels(lowest * 1.001)
    with pytest.raises(CistError, match=r"The ratio 71\.11 lies beyond the table of this token set, which ends at 64"):
        found.soft_labels(lowest * 0.9)
    with pytest.raises(CistError, match="Expected every temperature to be positive, but got -1"):
        found.surprisal(-1.0)


# ---- on the disk -----------------------------------------------------------------------------------------------------


def test_a_file_holds_the_whole_set_in_less_than_4_kilobytes_a_token(tmp_path, found):
    path = tmp_path / "set.safetensors"
    found.save(path)
    assert path.stat().st_size < 4000 * TOKENS
    read = TokenSet.load(path)
    assert isinstance(read.table.base, np.memmap)
    assert dict(read.provenance) == {"teacher": "a bell", "precision": "float32"}
    assert read.tokens_digest == found.tokens_digest
    for ours, theirs in zip(read.facts, found.facts, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(read.soft_labels(1.9).top, found.soft_labels(1.9).top)
    np.testing.assert_array_equal(read.curves().at_temperature(1.9), found.curves().at_temperature(1.9))
    np.testing.assert_allclose(read.curves().at_ratio(np.full(40, 4.4)), found.curves().at_ratio(4.4), rtol=1e-6)
    again = tmp_path / "again.safetensors"
    read.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_a_changed_byte_is_noticed(tmp_path, found):
    path = tmp_path / "set.safetensors"
    found.save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CistError, match=r"set\.safetensors is damaged: its content does not have the checksum"):
        TokenSet.load(path)


def test_other_files_are_no_token_sets(tmp_path):
    LogitSet.create(language_logits(4, 50)).save(tmp_path / "logits.safetensors")
    with pytest.raises(CistError, match=r"logits\.safetensors is no token set \(its format is 'cist-logits-1'\)"):
        TokenSet.load(tmp_path / "logits.safetensors")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("ratios", lambda array: array[:-1].copy(), "made by another version, whose tables have other ratios"),
        ("top", lambda array: array[:-1].copy(), r"top is float32 of the shape \(59, 32\), not float32 of \(60, 32\)"),
        ("rank", lambda array: array.astype(np.int64), "rank is int64"),
        ("ids", lambda array: array + 3000, "Expected ids of tokens as whole numbers from 0 to 2,999"),
        ("roles", lambda array: array + 7, "out of bounds"),
        ("peak", None, "'peak'"),
    ],
)
def test_files_that_are_put_together_wrongly_are_refused(tmp_path, found, name, change, message):
    path = tmp_path / "set.safetensors"
    found.save(path)
    with safe_open(path, "np") as file:
        metadata = {key: text for key, text in file.metadata().items() if key != CHECKSUM}
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change(arrays[name])
    save_file(arrays, path, metadata)
    with pytest.raises(CistError, match=message):
        TokenSet.load(path)


def test_memory_does_not_grow_with_the_logits():
    """400 rows of 20,000 logits are 32 MB; what is kept of them is 1 MB."""
    rng = np.random.default_rng(0)

    def chunks():
        for _ in range(20):
            yield rng.standard_normal((20, 20_000), dtype=np.float32), facts_of(20, 20_000)

    token_set([next(iter(chunks()))], count=20)  # what is compiled and imported is no part of it
    tracemalloc.start()
    token_set(chunks(), count=400)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


# ---- two models ------------------------------------------------------------------------------------------------------


def test_token_sets_of_other_texts_are_not_compared(logits, found):
    found.check_same_tokens(made(logits * 0.5, facts_of()))
    facts = facts_of()
    shifted = facts._replace(ids=np.roll(facts.ids, 1))
    with pytest.raises(CistError, match=r"their ids differ at \d+ of 60 tokens, first at token 0"):
        found.check_same_tokens(made(logits, shifted))
    assert made(logits, shifted).tokens_digest != found.tokens_digest
    with pytest.raises(CistError, match="one has 60 tokens and the other 30"):
        found.check_same_tokens(made(logits[:30], part_of(facts, slice(30))))
    with pytest.raises(
        CistError, match=r"3,000 of a vocabulary take part in one and 2,900 in the other; only in one: 2900, 2901,"
    ):
        found.check_same_tokens(made(logits[:, :2900], facts._replace(ids=facts.ids % 2900)))


def padded(logits, wanted, mask=-np.inf):
    """The same vocabulary filled up with what takes no part."""
    return np.pad(logits, ((0, 0), (0, wanted - logits.shape[1])), constant_values=mask)


def test_models_of_one_tokenizer_may_fill_their_vocabularies_up_to_other_sizes(logits, found):
    other = 0.5 * logits
    large, larger = made(padded(other, 3008), facts_of()), made(padded(other, 3072), facts_of())
    for one, two in ((found, large), (large, found), (large, larger)):
        one.check_same_tokens(two)
    pair = token_pair([(padded(logits, 3072), padded(other, 3008), facts_of())], count=TOKENS)
    p, q = (softmax(rows.astype(np.float64), axis=1) for rows in (logits, other))
    np.testing.assert_allclose(pair.divergence(1.0, 1.0), rel_entr(p, q).sum(axis=1), rtol=0, atol=2e-4)


def two_models(logits, **changes):
    other = (0.6 * logits + 2 * np.random.default_rng(5).standard_normal(logits.shape)).astype(np.float32)
    chunks = [
        (logits[rows], changes.get("student", other)[rows], part_of(facts_of(), rows))
        for rows in (slice(0, 17), slice(17, TOKENS))
    ]
    return token_pair(chunks, count=TOKENS), other


@pytest.mark.parametrize(("tau_teacher", "tau_student"), [(1.0, 1.0), (2.0, 1.3), (0.5, 4.0), (20.0, 20.0)])
def test_the_divergence_of_two_models_at_any_temperatures(logits, tau_teacher, tau_student):
    pair, other = two_models(logits)
    pair.teacher.check_same_tokens(pair.student)
    p = softmax(logits.astype(np.float64) / tau_teacher, axis=1)
    q = softmax(other.astype(np.float64) / tau_student, axis=1)
    expected = rel_entr(p, q).sum(axis=1)
    np.testing.assert_allclose(pair.divergence(tau_teacher, tau_student), expected, rtol=0, atol=2e-4)
    reverse = rel_entr(q, p).sum(axis=1)
    np.testing.assert_allclose(pair.reverse_divergence(tau_teacher, tau_student), reverse, rtol=0, atol=2e-4)


def test_the_divergence_under_two_rules(logits):
    pair, other = two_models(logits)
    taus = [np.maximum(centred_maximum(rows) / 9.0, 1.0) for rows in (logits, other)]
    p, q = (
        softmax(rows.astype(np.float64) / tau[:, None], axis=1) for rows, tau in zip((logits, other), taus, strict=True)
    )
    np.testing.assert_allclose(pair.divergence(*taus), rel_entr(p, q).sum(axis=1), rtol=0, atol=2e-4)
    np.testing.assert_allclose(pair.reverse_divergence(*taus), rel_entr(q, p).sum(axis=1), rtol=0, atol=2e-4)


def test_a_model_does_not_diverge_from_itself(logits):
    pair, _ = two_models(logits, student=logits)
    for tau in (0.5, 1.0, 4.0):
        np.testing.assert_allclose(pair.divergence(tau, tau), 0, atol=1e-4)


def test_a_constant_teacher_looks_everywhere(logits):
    constant = np.full_like(logits, 3.0)
    pair = token_pair([(constant, logits, facts_of())], count=TOKENS)
    q = log_softmax(logits.astype(np.float64), axis=1)
    expected = -np.log(VOCABULARY) - q.mean(axis=1)
    np.testing.assert_allclose(pair.divergence(1.0, 1.0), expected, rtol=1e-5)


def test_two_models_need_the_same_masks(logits):
    masked = logits.copy()
    masked[:, 2990:] = -np.inf
    facts = facts_of()._replace(ids=np.full(TOKENS, 5))
    with pytest.raises(
        CistError, match=r"2,990 of a vocabulary take part in one and 3,000 in the other; only in one: 2990, 2991,"
    ):
        token_pair([(masked, logits, facts)], count=TOKENS)
    with pytest.raises(CistError, match=r"3,000 of a vocabulary take part in one and 2,990 in the other"):
        token_pair([(logits, logits[:, :2990], facts)], count=TOKENS)
    pair = token_pair([(masked, masked, facts)], count=TOKENS)
    np.testing.assert_allclose(pair.divergence(2.0, 2.0), 0, atol=1e-4)


def test_a_pair_is_written_and_read(tmp_path, logits):
    pair, _ = two_models(logits)
    pair.save(tmp_path)
    read = TokenPair.load(tmp_path)
    np.testing.assert_array_equal(read.divergence(1.5, 2.5), pair.divergence(1.5, 2.5))
    np.testing.assert_array_equal(read.reverse_divergence(1.5, 2.5), pair.reverse_divergence(1.5, 2.5))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 9500 * TOKENS
    with safe_open(tmp_path / "cross.safetensors", "np") as file:
        metadata = {key: text for key, text in file.metadata().items() if key != CHECKSUM}
        ratios, cross = file.get_tensor("ratios"), file.get_tensor("cross")
    save_file(
        {"ratios": ratios, "cross": cross, "reverse": cross[:, :-1].copy()}, tmp_path / "cross.safetensors", metadata
    )
    with pytest.raises(CistError, match=r"cross\.safetensors has no tables between these two models"):
        TokenPair.load(tmp_path)
    pair.teacher.save(tmp_path / "student.safetensors")
    with pytest.raises(CistError, match=r"student\.safetensors is another one than that of .*cross\.safetensors"):
        TokenPair.load(tmp_path)


# ---- what the vision side computes -----------------------------------------------------------------------------------


def test_sliders_over_a_vocabulary_reach_the_rho_of_temperature_one(logits, found):
    curves = found.curves()
    tau, rho = Fixed(1.0), Cist(30.0, 0.0)
    grid = slider_grid(read_rule(tau, curves), read_rule(rho, curves), curves, rho_range=LANGUAGE_RHO_RANGE)
    assert (grid.rhos[0].value, grid.rhos[-1].value) == LANGUAGE_RHO_RANGE
    at_tau, at_rho = grid.taus[grid.start[0]], grid.rhos[grid.partners_of_taus[grid.start[0]]]
    expected = [entropy_at(logits, 1.0), entropy_at_cist(logits, at_rho.value, 0.0)]
    counted = facts_of().counted
    assert at_tau.profile.mean == pytest.approx(expected[0][counted].mean(), abs=1e-4)
    assert at_rho.profile.mean == pytest.approx(expected[1][counted].mean(), abs=1e-4)


def test_rho_curves_weights_and_the_recommendation_read_token_sets(logits, found):
    facts = facts_of()
    exact = EntropyCurves.from_logits(LogitSet.create(logits[facts.counted]))
    curves = found.curves()
    sweep, expected = rho_sweep(curves, reach=30.0), rho_sweep(exact, reach=30.0)
    np.testing.assert_allclose(sweep.mean, expected.mean, rtol=0, atol=1e-4)
    np.testing.assert_allclose(sweep.at_floor, expected.at_floor, rtol=0, atol=1e-9)
    ours, theirs = (recommend_rho(of, low=0.3, target=0.5) for of in (curves, exact))
    assert ours.rho == pytest.approx(theirs.rho, rel=1e-3)
    weights, others = (SampleWeights.of(of, of, rho=17.0) for of in (curves, exact))
    np.testing.assert_allclose(weights.weight, others.weight, rtol=1e-5)
