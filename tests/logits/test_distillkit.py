"""DistillKit's captures, written here from the description of the format alone: Python's own numbers, bit by bit."""

import itertools
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from command_line import run
from reference import entropy_at
from scipy.special import log_softmax, softmax

from cist_core import CistError, read_logits
from cist_core.logits.top_k import TopK, is_top_k_file, read_top_k

CLASSES, K, EXACT = 300, 12, 5
TAUS = (0.5, 1.0, 2.0)
FORMATS = {"float16": "<e", "float32": "<f", "float64": "<d"}
CONFIG = {
    "d": CLASSES,
    "k": K,
    "exact_k": EXACT,
    "exact_dtype": "float32",
    "polynomial_terms": [0, 1, "sqrt"],
    "term_dtype": "float32",
    "residual_bins": [],
    "delta_encoding": False,
    "error_diffusion": False,
    "normalize_t": False,
}


def number(value, dtype):
    """The bytes of one number; of bfloat16 the upper half of a float32, rounded to even."""
    if dtype != "bfloat16":
        return struct.pack(FORMATS[dtype], value)
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    return struct.pack("<H", (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


def bits(numbers, width):
    text = "".join(f"{each:0{width}b}" for each in numbers)
    text += "0" * (-len(text) % 8)
    return [int(text[place : place + 8], 2) for place in range(0, len(text), 8)]


def bins(values, packing):
    """Each bin: its scale, and what is left of the fit as whole numbers, counted from the least."""
    for each in packing["residual_bins"]:
        part, values = values[: each["num_elements"]], values[each["num_elements"] :]
        half = 2 ** (each["element_bits"] - 1)
        scale = max(map(abs, part)) / half or 1.0
        yield [*number(scale, each["scale_dtype"])]
        yield bits([min(max(round(value / scale), -half), half - 1) + half for value in part], each["element_bits"])


def token(ids, log_probs, packing):
    """The bytes of the classes and of the log-probabilities of one token, most probable first."""
    values = [float(each) for each in log_probs]
    if packing["delta_encoding"]:
        values = [values[0], *(after - before for before, after in itertools.pairwise(values))]
    exact, rest = values[: packing["exact_k"]], np.array(values[packing["exact_k"] :])
    coefficients = []
    if terms := packing["polynomial_terms"]:
        places = np.arange(len(rest), dtype=float)
        curves = np.stack([np.sqrt(places) if term == "sqrt" else places**term for term in terms], axis=1)
        coefficients = np.linalg.lstsq(curves, rest, rcond=None)[0]
        rest = rest - curves @ coefficients
    parts = [[*number(value, packing["exact_dtype"])] for value in exact]
    parts += [[*number(value, packing["term_dtype"])] for value in coefficients]
    return bits(ids, (packing["d"] - 1).bit_length()), [*itertools.chain(*parts, *bins(list(rest), packing))]


@pytest.fixture(scope="module")
def texts():
    """Logits of the places of three texts but their first, and tokens that are drawn from them."""
    generator = np.random.default_rng(3)
    found = []
    for length in (40, 25, 60):
        logits = generator.standard_normal((length, CLASSES)) * 3
        drawn = [int(generator.choice(CLASSES, p=row)) for row in softmax(logits, axis=1)]
        found.append((logits, [7, *drawn]))
    return found


def most_probable(logits, k=K):
    log_probs = log_softmax(logits, axis=1)
    ids = np.argsort(-log_probs, axis=1)[:, :k]
    return ids, np.take_along_axis(log_probs, ids, axis=1)


def write(folder, texts, packing, *, rows_a_file=2, config=True):
    """A capture as DistillKit lays it out: two texts a file, and the config beside them."""
    folder.mkdir(exist_ok=True)
    rows = []
    for logits, tokens in texts:
        packed = [token(*each, packing) for each in zip(*most_probable(logits), strict=True)]
        rows.append((tokens, [each for each, _ in packed], [each for _, each in packed]))
    kinds = (pa.list_(pa.uint64()), pa.list_(pa.list_(pa.uint8())), pa.list_(pa.list_(pa.uint8())))
    names = ("input_ids", "bytepacked_indices", "compressed_logprobs")
    for start in range(0, len(rows), rows_a_file):
        columns = zip(*rows[start : start + rows_a_file], strict=True)
        table = pa.table(
            {name: pa.array(column, kind) for name, column, kind in zip(names, columns, kinds, strict=True)}
        )
        pq.write_table(table, folder / f"data_{start // rows_a_file}.parquet")
    if config:
        (folder / "compression_config.yaml").write_text(yaml.safe_dump(packing))
    return folder


def expected(texts, exact=EXACT):
    return most_probable(np.concatenate([logits for logits, _ in texts]), exact)


@pytest.mark.parametrize("differences", [False, True])
@pytest.mark.parametrize(
    ("dtype", "relative"), [("float16", 2**-11), ("bfloat16", 2**-8), ("float32", 2**-24), ("float64", 2**-50)]
)
def test_a_packed_capture_opens_at_its_exact_log_probabilities(tmp_path, texts, dtype, relative, differences):
    capture = write(tmp_path / "c", texts, {**CONFIG, "exact_dtype": dtype, "delta_encoding": differences})
    top = read_top_k(capture)
    ids, log_probs = expected(texts)
    assert (top.num_samples, top.k, top.vocabulary) == (125, EXACT, CLASSES)
    assert np.abs(top.log_probs - log_probs).max() <= relative * np.abs(log_probs).max()
    # Where two round to the same number, either may come first.
    for found, wanted, values in zip(top.ids, ids, top.log_probs, strict=True):
        assert set(found) == set(wanted)
        if len(set(values)) == EXACT:
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_truth_lies_inside_and_nothing_is_renormalised(tmp_path, texts, dtype):
    top = read_top_k(write(tmp_path / "c", texts, {**CONFIG, "exact_dtype": dtype}))
    logits = np.concatenate([logits for logits, _ in texts])
    tail = 1 - np.exp(most_probable(logits, EXACT)[1]).sum(axis=1)
    assert (top.remaining[:, 0] <= tail).all()
    assert (tail <= top.remaining[:, 1]).all()
    assert tail.mean() > 0.1
    for tau in TAUS:
        lower, upper = top.entropy_bounds(tau)
        assert (lower - (5e-2 if dtype == "bfloat16" else 1e-6) <= entropy_at(logits, tau)).all()
        assert (entropy_at(logits, tau) <= upper + (5e-2 if dtype == "bfloat16" else 1e-6)).all()


def test_what_is_fitted_belongs_to_the_tail_and_that_is_said(tmp_path, texts):
    binned = [
        {"scale_dtype": "float16", "element_bits": 8, "num_elements": 3},
        {"scale_dtype": "bfloat16", "element_bits": 3, "num_elements": 4},
    ]
    said = (
        "DistillKit's packed layout, 5 of 12 classes a token; the log-probabilities of the others are fitted, so these"
    )
    for name, terms, bins_ in (("curve", [0, 1], []), ("bins", None, binned), ("both", [0, 1, 2, "sqrt"], binned)):
        top = read_top_k(write(tmp_path / name, texts, {**CONFIG, "polynomial_terms": terms, "residual_bins": bins_}))
        np.testing.assert_allclose(top.log_probs, expected(texts)[1], rtol=1e-6)
        assert top.provenance["layout"] == f"{said} belong to the tail"


def test_all_classes_are_read_where_all_are_exact(tmp_path, texts):
    packing = {**CONFIG, "exact_k": K, "polynomial_terms": None}
    top = read_top_k(write(tmp_path / "c", texts, packing))
    np.testing.assert_array_equal(top.ids, expected(texts, K)[0])
    assert top.provenance["layout"] == "DistillKit's packed layout, 12 of 12 classes a token"


@pytest.mark.parametrize("classes", [2, 256, 257, 131_072, 131_073])
def test_classes_have_as_many_bits_as_the_last_of_them_needs(tmp_path, classes):
    ids = [classes - 1, 0]
    packing = {**CONFIG, "d": classes, "k": 2, "exact_k": 2, "polynomial_terms": None}
    packed = token(ids, np.log([0.7, 0.3 if classes == 2 else 0.2]), packing)
    columns = zip(("bytepacked_indices", "compressed_logprobs"), packed, strict=True)
    pq.write_table(pa.table({name: nested([[each]], "uint8") for name, each in columns}), tmp_path / "data_0.parquet")
    (tmp_path / "compression_config.yaml").write_text(yaml.safe_dump(packing))
    assert read_top_k(tmp_path).ids.tolist() == [ids]


def test_one_file_of_a_capture_and_a_vocabulary_with_padding(tmp_path, texts):
    capture = write(tmp_path / "c", texts, CONFIG)
    assert read_top_k(capture / "data_1.parquet").num_samples == 60
    assert read_top_k(capture, vocabulary=320).vocabulary == 320
    assert is_top_k_file(capture)
    assert is_top_k_file(capture / "data_0.parquet")
    with pytest.raises(
        CistError, match=r"data_0.parquet: this holds some of the most probable classes.*--vocabulary V"
    ):
        read_logits(capture / "data_0.parquet")


def test_the_files_of_a_capture_come_in_the_order_of_their_numbers(tmp_path, texts):
    many = [texts[place % 3] for place in range(11)]
    top = read_top_k(write(tmp_path / "c", many, CONFIG, rows_a_file=1))
    np.testing.assert_array_equal(top.ids, expected(many)[0])


def nested(values, kind="int64"):
    return pa.array(values, pa.list_(pa.list_(pa.type_for_alias(kind))))


def plain_rows(texts, k=4):
    tops = [most_probable(logits, k) for logits, _ in texts]
    return pa.table(
        {
            "input_ids": [tokens for _, tokens in texts],
            "token_ids": nested([ids.tolist() for ids, _ in tops]),
            "top_values": nested([values.tolist() for _, values in tops], "float32"),
        }
    )


def test_the_plain_layout_opens_without_a_config(tmp_path, texts):
    pq.write_table(plain_rows(texts), tmp_path / "data_0.parquet")
    with pytest.raises(CistError, match="the number of classes is not in it; give it with --vocabulary V"):
        read_top_k(tmp_path)
    top = read_top_k(tmp_path, vocabulary=CLASSES)
    np.testing.assert_array_equal(top.ids, expected(texts, 4)[0])
    np.testing.assert_allclose(top.log_probs, expected(texts, 4)[1], rtol=1e-6)


def test_what_a_bfloat16_teacher_gave_is_as_uncertain_as_that_in_float32(tmp_path, texts):
    table = plain_rows(texts, EXACT)
    values = [np.array(text, np.float32) for text in table["top_values"].to_pylist()]
    coarse = [(each.view(np.uint32) & 0xFFFF0000).view(np.float32).tolist() for each in values]
    pq.write_table(table.set_column(2, "top_values", nested(coarse, "float32")), tmp_path / "data_0.parquet")
    top = read_top_k(tmp_path, vocabulary=CLASSES)
    tail = 1 - np.exp(expected(texts)[1]).sum(axis=1)
    assert (top.remaining[:, 0] <= tail).all()
    assert (tail <= top.remaining[:, 1]).all()


def test_the_last_class_bounds_the_others_up_to_its_rounding():
    logits = np.random.default_rng(5).uniform(-0.01, 0.01, (200, 300))  # nearly even: all may have what the last has
    ids, log_probs = most_probable(logits, 16)
    coarse = (log_probs.astype(np.float32).view(np.uint32) + 0x8000 & 0xFFFF0000).view(np.float32)
    top = TopK.create(ids, coarse, vocabulary=300)
    tail = 1 - np.exp(log_probs).sum(axis=1)
    assert (top.remaining[:, 0] <= tail).all()
    assert (tail <= top.remaining[:, 1]).all()


def test_a_distribution_for_each_token_leaves_the_last_without_one_that_it_predicts(tmp_path, texts):
    """Captures that are not DistillKit's own end with the distribution after the last token."""
    pq.write_table(plain_rows([(logits, tokens[:-1]) for logits, tokens in texts]), tmp_path / "data_0.parquet")
    assert read_top_k(tmp_path, vocabulary=CLASSES).num_samples == 125


def test_distributions_of_the_tokens_beside_theirs_are_noticed(tmp_path, texts):
    shifted = [(np.roll(logits, 1, axis=0), tokens) for logits, tokens in texts]
    with pytest.raises(CistError, match="shifted by one position"):
        read_top_k(write(tmp_path / "c", shifted, CONFIG))
    with pytest.raises(
        CistError, match="a text of 42 tokens has 40 distributions; DistillKit writes one for each token"
    ):
        read_top_k(write(tmp_path / "d", [(texts[0][0], [*texts[0][1], 1])], CONFIG))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"d": 600}, "'bytepacked_indices' has 14 bytes a token, and compression_config.yaml makes 15 of d 600"),
        ({"exact_k": 6}, "'compressed_logprobs' has 32 bytes a token, and compression_config.yaml makes 36"),
        ({"exact_k": 0}, "exact_k is 0: all log-probabilities are fitted.*; capture with an exact_k of 16 or more"),
        ({"exact_k": 13}, "Expected exact_k <= k <= d, but got 13, 12 and 300"),
        ({"k": "12"}, "Expected k to be a whole number of 1 or more, but got '12'"),
        ({"k": True}, "Expected k to be a whole number"),
        (
            {"exact_dtype": "int8"},
            "Expected exact_dtype to be one of float16, bfloat16, float32, float64, but got 'int8'",
        ),
        ({"delta_encoding": "no"}, "Expected delta_encoding to be true or false, but got 'no'"),
        ({"residual_bins": 3}, "Expected residual_bins to be a list"),
        ({"residual_bins": [3]}, "Expected each of residual_bins to have names and values"),
        ({"residual_bins": [{"element_bits": 2, "num_elements": 4}]}, "Expected scale_dtype to be one of"),
        ({"d": 1 << 24}, "at most 1,048,576 classes are read"),
    ],
)
def test_a_config_that_is_not_that_of_the_capture_is_refused(tmp_path, texts, changed, message):
    capture = write(tmp_path / "c", texts, CONFIG)
    (capture / "compression_config.yaml").write_text(yaml.safe_dump({**CONFIG, **changed}))
    with pytest.raises(CistError, match=message):
        read_top_k(capture)


def test_log_probabilities_that_rise_are_read_as_something_that_they_are_not(tmp_path, texts):
    capture = write(tmp_path / "c", texts, {**CONFIG, "delta_encoding": True, "exact_dtype": "float16"})
    (capture / "compression_config.yaml").write_text(yaml.safe_dump({**CONFIG, "exact_dtype": "float16"}))
    with pytest.raises(
        CistError, match=r"of a token rise, and those of DistillKit fall; put the compression_config.yaml"
    ):
        read_top_k(capture)


@pytest.mark.parametrize("content", ["d: [", "- 3", "just words", "d: 1\nd: 2"])
def test_a_config_that_is_none_is_one_sentence(tmp_path, texts, content):
    capture = write(tmp_path / "c", texts, CONFIG)
    (capture / "compression_config.yaml").write_text(content)
    with pytest.raises(CistError, match=r"data_0.parquet: compression_config.yaml beside it"):
        read_top_k(capture)


def test_bytes_without_their_config_and_the_earlier_layout_are_refused(tmp_path, texts):
    capture = write(tmp_path / "c", texts, CONFIG, config=False)
    with pytest.raises(CistError, match=r"there is no compression_config.yaml beside it, without which its bytes say"):
        read_top_k(capture)
    table = pa.table(dict.fromkeys(("packed_indices", "exact_values", "coeffs"), nested([[[1, 2], [3, 4]]])))
    pq.write_table(table, tmp_path / "old.parquet")
    assert is_top_k_file(tmp_path / "old.parquet")
    with pytest.raises(
        CistError, match=r"DistillKit's earlier layout, which does not say whether.*; store DistillKit's"
    ):
        read_top_k(tmp_path / "old.parquet")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"bytepacked_indices": nested([[[1, 256]]])}, "'bytepacked_indices' holds something else than bytes"),
        ({"bytepacked_indices": nested([[[1], [1, 2]]])}, "'bytepacked_indices' does not have as many values"),
        ({"bytepacked_indices": nested([[[1, None]]])}, "'bytepacked_indices' does not have as many values"),
        ({"bytepacked_indices": nested([[[1, 2], [1, 2]]])}, "have other numbers of tokens"),
        ({"bytepacked_indices": nested([None])}, "'bytepacked_indices' does not have as many values"),
        (
            {"compressed_logprobs": pa.array([[1.0, 2.0]])},
            "but neither 'bytepacked_indices' and 'compressed_logprobs' nor",
        ),
    ],
)
def test_columns_that_are_no_capture_are_refused(tmp_path, columns, message):
    good = {"bytepacked_indices": nested([[[1, 2]]]), "compressed_logprobs": nested([[[1, 2, 3, 4]]])}
    pq.write_table(pa.table({**good, **columns}), tmp_path / "data_0.parquet")
    packing = {**CONFIG, "k": 1, "exact_k": 1, "polynomial_terms": None}
    (tmp_path / "compression_config.yaml").write_text(yaml.safe_dump(packing))
    with pytest.raises(CistError, match=message):
        read_top_k(tmp_path / "data_0.parquet", vocabulary=CLASSES)


def test_texts_of_one_token_have_no_distribution(tmp_path):
    empty = nested([[], []], "uint8")
    table = pa.table({"input_ids": [[3], [4]], "bytepacked_indices": empty, "compressed_logprobs": empty})
    pq.write_table(table, tmp_path / "data_0.parquet")
    (tmp_path / "compression_config.yaml").write_text(yaml.safe_dump(CONFIG))
    with pytest.raises(CistError, match="holds no text of two tokens"):
        read_top_k(tmp_path)


def test_a_capture_on_the_command_line(capsys, tmp_path, texts):
    capture = write(tmp_path / "c", texts, CONFIG)
    code, out, err = run(capsys, "analyze", "--logits", capture, "--tau", 1)
    assert code == 0, err
    assert "125 samples, the 5 most probable of 300 classes" in out
    assert err.startswith("DistillKit's packed layout, 5 of 12 classes a token; the log-probabilities of the others")
    code, out, err = run(capsys, "analyze", "--logits", capture, "--rho", 3)
    assert (code, out) == (2, "")
    assert "CIST is not among them: its temperature needs the mean of all logits" in err


def test_a_tail_of_numbers_without_more_digits_than_bfloat16_is_that_uncertain():
    logits = np.random.default_rng(0).standard_normal((400, 60)) * 2
    ids, log_probs = most_probable(logits, 8)
    tail = 1 - np.exp(log_probs).sum(axis=1)
    wide = log_probs.astype(np.float32)
    halves = (((wide.view(np.uint32) + 0x8000) >> 16) << 16).view(np.float32)
    remaining = TopK.create(ids, halves, vocabulary=60).remaining
    assert ((remaining[:, 0] <= tail) & (tail <= remaining[:, 1])).all()
    exactly = TopK.create(ids, halves, vocabulary=60, stored_as="float32").remaining
    assert ((exactly[:, 0] > tail) | (tail > exactly[:, 1])).any()
