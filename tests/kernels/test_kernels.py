"""Both backends against float64 SciPy of the stored values."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference import centred_maximum, entropy_at, entropy_at_cist, entropy_at_ratio
from scipy.special import logsumexp, rel_entr, softmax
from scipy.stats import entropy as scipy_entropy
from scipy.stats import rankdata

from cist_core import kernels

NATS = 1e-4
CLASSES = [2, 3, 7, 10, 17, 32, 33, 100, 1000, 1001, 1100]
RATIOS = [0.5, 1.0, 3.3, 8.0, 15.0, 19.1, 40.3, 63.5]
SMALL_RATIOS = [0.0005, 0.01, 0.1, 0.29]
TAUS = [0.25, 1.0, 4.0, 20.0]
BIG = 50257


@pytest.fixture(scope="module", autouse=True)
def _one_torch_thread():
    """These tensors are small: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def on_numpy(rows):
    return rows


def on_torch(rows):
    return torch.from_numpy(rows)


backends = pytest.mark.parametrize("to_backend", [on_numpy, on_torch], ids=["numpy", "torch"])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["float32", "float16"])


def rows_of_every_kind(classes, dtype=np.float32):
    """Random, tied, one-hot-like, constant, huge, far from zero, and with a few classes far below the rest."""
    rng = np.random.default_rng(classes)
    random = rng.standard_normal((3, classes)) * [[0.5], [3.0], [8.0]]
    tied = rng.integers(0, 3, (2, classes))
    half_tied = np.where(np.arange(classes) < (classes + 1) // 2, 2.0, -1.0)[None]
    one_hot = np.zeros((2, classes))
    one_hot[0, 0], one_hot[1, -1] = 30.0, 3.0
    constant = np.full((2, classes), 3.25) * [[1.0], [-17.0]]
    huge = 1e4 * rng.standard_normal((2, classes))
    far = rng.standard_normal((1, classes)) + 900.0
    sunk = np.zeros((1, classes))
    sunk[0, : max(1, classes // 100)] = -9000.0
    return np.concatenate([random, tied, half_tied, one_hot, constant, huge, far, sunk]).astype(dtype)


def as_numpy(result):
    return np.asarray(result)


@backends
@dtypes
@pytest.mark.parametrize("classes", [*CLASSES, BIG])
def test_row_statistics(classes, dtype, to_backend):
    rows = rows_of_every_kind(classes, dtype)[:: 3 if classes == BIG else 1]
    exact = rows.astype(np.float64)
    ordered = np.sort(exact, axis=1)

    statistics = kernels.row_statistics(to_backend(rows))

    maximum = exact.max(axis=1) - exact.mean(axis=1)
    np.testing.assert_allclose(statistics.maximum, maximum, rtol=3e-6, atol=1e-4 if to_backend is on_torch else 1e-7)
    np.testing.assert_array_equal(statistics.peak, exact.max(axis=1))
    np.testing.assert_array_equal(statistics.top1, exact.argmax(axis=1))
    np.testing.assert_allclose(statistics.gap, ordered[:, -1] - ordered[:, -2], rtol=1e-6)
    np.testing.assert_allclose(statistics.std, exact.std(axis=1), rtol=3e-5, atol=1e-7)
    constant = ordered[:, 0] == ordered[:, -1]
    assert constant.any()
    assert not as_numpy(statistics.maximum)[constant].any()
    assert (as_numpy(statistics.maximum)[~constant] > 0).all()
    assert as_numpy(statistics.maximum).dtype == np.float32
    assert as_numpy(statistics.top1).dtype == np.int64


@backends
@pytest.mark.parametrize("position", [0, 1, 127, 128, 500, 999])
def test_the_first_of_tied_maxima_is_top1(position, to_backend):
    row = np.zeros((1, 1000), np.float32)
    row[0, [position, 999]] = 5.0
    statistics = kernels.row_statistics(to_backend(row))
    assert statistics.top1[0] == position
    assert statistics.gap[0] == (5.0 if position == 999 else 0.0)


@backends
@dtypes
@pytest.mark.parametrize("classes", CLASSES)
def test_entropy_at_temperatures(classes, dtype, to_backend):
    rows = rows_of_every_kind(classes, dtype)
    peak = to_backend(rows.max(axis=1).astype(np.float32))
    for tau in TAUS:
        np.testing.assert_allclose(
            kernels.entropy(to_backend(rows), peak, tau), entropy_at(rows, tau), rtol=0, atol=NATS
        )
    taus = np.linspace(0.25, 20.0, len(rows)).astype(np.float32)
    each = kernels.entropy(to_backend(rows), peak, to_backend(taus))
    np.testing.assert_allclose(each, entropy_at(rows, taus), rtol=0, atol=NATS)
    assert as_numpy(each).dtype == np.float32


@backends
@dtypes
@pytest.mark.parametrize("classes", CLASSES)
def test_sweep_first_pass_and_table_at_ratios(classes, dtype, to_backend):
    rows = rows_of_every_kind(classes, dtype)
    logits = to_backend(rows)
    statistics = kernels.row_statistics(logits)
    table = kernels.entropy_table(logits, statistics)
    assert table.shape == (len(rows), len(kernels.ratio_grid()), 2)
    for ratio in SMALL_RATIOS + RATIOS:
        expected = entropy_at_ratio(rows, ratio)
        np.testing.assert_allclose(kernels.read_table(table, ratio), expected, rtol=0, atol=NATS)
        _, at_once = kernels.first_pass(logits, rho=ratio)
        np.testing.assert_allclose(at_once, expected, rtol=0, atol=NATS)
    sweep = kernels.entropy_sweep(logits, statistics, start=0.01, step=0.23, count=70)
    for j in (0, 1, 2, 3, 4, 5, 31, 63, 64, 65, 69):
        np.testing.assert_allclose(sweep[:, j], entropy_at_ratio(rows, 0.01 + 0.23 * j), rtol=0, atol=NATS)


@backends
@dtypes
@pytest.mark.parametrize("classes", CLASSES)
def test_first_pass_at_a_ratio_with_a_floor(classes, dtype, to_backend):
    rows = rows_of_every_kind(classes, dtype)
    logits = to_backend(rows)
    between = float(np.median(centred_maximum(rows))) / 3.3  # binds on half of the rows at the ratio 3.3
    for floor in (1e-3, 1.0, between, 1e9):
        for ratio in (0.29, 3.3, 15.0):
            _, entropy = kernels.first_pass(logits, rho=ratio, floor=floor)
            expected = entropy_at_cist(rows, ratio, floor)
            np.testing.assert_allclose(entropy, expected, rtol=0, atol=NATS)
    without = kernels.first_pass(logits, rho=3.3)[1]
    np.testing.assert_allclose(kernels.first_pass(logits, rho=3.3, floor=0.0)[1], without, rtol=0, atol=1e-5)
    np.testing.assert_allclose(  # where the floor binds everywhere, CIST is a fixed temperature
        kernels.first_pass(logits, rho=1e12, floor=2.0)[1], kernels.first_pass(logits, tau=2.0)[1], rtol=0, atol=1e-6
    )


@backends
@dtypes
def test_a_whole_vocabulary(dtype, to_backend):
    rows = rows_of_every_kind(BIG, dtype)[[1, 3, 6, 8, 12]]
    logits = to_backend(rows)
    statistics, at_tau = kernels.first_pass(logits, tau=4.0)
    expected = {ratio: entropy_at_ratio(rows, ratio) for ratio in (0.25, 3.0, 11.5)}
    np.testing.assert_allclose(at_tau, entropy_at(rows, 4.0), rtol=0, atol=NATS)
    table = kernels.entropy_table(logits, statistics)
    sweep = kernels.entropy_sweep(logits, statistics, start=0.25, step=0.25, count=46)
    for ratio, reference in expected.items():
        np.testing.assert_allclose(kernels.read_table(table, ratio), reference, rtol=0, atol=NATS)
        np.testing.assert_allclose(sweep[:, round(ratio / 0.25) - 1], reference, rtol=0, atol=NATS)


@backends
def test_a_long_sweep_does_not_drift(to_backend):
    rows = rows_of_every_kind(100)
    statistics = kernels.row_statistics(to_backend(rows))
    sweep = kernels.entropy_sweep(to_backend(rows), statistics, start=0.0, step=0.01, count=1600)
    for j in (1, 511, 1023, 1599):
        np.testing.assert_allclose(sweep[:, j], entropy_at_ratio(rows, 0.01 * j), rtol=0, atol=NATS)


@backends
@pytest.mark.parametrize("classes", [2, 3, 5, 10, 100, 1000])
def test_the_table_holds_between_all_its_nodes(classes, to_backend):
    rng = np.random.default_rng(5)
    heavy = rng.standard_cauchy((12, classes))
    sunk = np.where(np.arange(classes) < np.geomspace(1, max(1, classes // 2), 12)[:, None], -1.0, 0.0)
    rows = np.concatenate([heavy, sunk, rng.standard_normal((12, classes))]).astype(np.float32)
    logits = to_backend(rows)
    table = kernels.entropy_table(logits, kernels.row_statistics(logits))
    nodes = kernels.ratio_grid()
    for ratio in (nodes[1:] + nodes[:-1]) / 2:
        expected = entropy_at_ratio(rows, ratio)
        np.testing.assert_allclose(kernels.read_table(table, ratio), expected, rtol=0, atol=NATS)


@backends
def test_the_table_is_read_at_a_ratio_per_row_up_to_its_end(to_backend):
    rows = rows_of_every_kind(17)
    logits = to_backend(rows)
    table = kernels.entropy_table(logits, kernels.row_statistics(logits))
    ratios = np.linspace(1e-3, kernels.MAX_TABLE_RATIO, len(rows))
    expected = entropy_at_ratio(rows, ratios)
    np.testing.assert_allclose(kernels.read_table(table, to_backend(ratios)), expected, rtol=0, atol=NATS)
    np.testing.assert_allclose(kernels.read_table(table, 0.0), np.log(17), rtol=1e-6)


@backends
@dtypes
@pytest.mark.parametrize("classes", [100, 1000, 49_152])
def test_the_table_at_random_ratios_up_to_its_end(classes, dtype, to_backend):
    """Peaked and heavy-tailed rows, groups of classes that vanish together, and rows as of a language model."""
    rng = np.random.default_rng(classes)
    count = 2 if classes == 49_152 else 20
    peaked = rng.standard_normal((count, classes))
    peaked[np.arange(count), rng.integers(0, classes, count)] += rng.uniform(5, 20, count)
    heavy = rng.standard_t(2, (count, classes))
    grouped = -np.geomspace(0.2, 2, count)[:, None] * rng.integers(0, 4, (count, classes))
    grouped[:, 0] = 0
    language = 2.2 * rng.standard_normal((count, classes)) + np.where(np.arange(classes) < 20, 8, 0)
    rows = np.concatenate([peaked, heavy, grouped, language]).astype(dtype)
    logits = to_backend(rows)
    statistics = kernels.row_statistics(logits)
    table = kernels.entropy_table(logits, statistics)
    for ratios in kernels.MAX_TABLE_RATIO * (1 - rng.random((4, len(rows)))):
        expected = entropy_at_ratio(rows, ratios)
        np.testing.assert_allclose(kernels.read_table(table, to_backend(ratios)), expected, rtol=0, atol=NATS)


@dtypes
@pytest.mark.parametrize("classes", [4095, 4096, 8195])
def test_the_table_of_a_long_row_whatever_lies_beside_it(classes, dtype):
    """Rows that suit a power series, rows that do not and constant ones, in groups that are full and not."""
    rng = np.random.default_rng(classes)
    rows = rng.standard_normal((19, classes)) * rng.uniform(0.1, 5, (19, 1))
    rows[3] = 1.5
    rows[5, 7] = -60.0
    rows[6:8, :40] += 30
    rows = rows.astype(dtype)
    nodes = kernels.ratio_grid()
    for taken in (rows[:5], rows[5:], rows):
        found = kernels.entropy_table(taken, kernels.row_statistics(taken))
        np.testing.assert_allclose(found[:, 0, 0], np.log(classes), rtol=1e-6)
        for k in (1, 5, 20, 40, 80, 100, 110, 130, 160, len(nodes) - 1):
            expected = entropy_at_ratio(taken, nodes[k])
            np.testing.assert_allclose(found[:, k, 0], expected, rtol=0, atol=3e-5)


@backends
@dtypes
@pytest.mark.parametrize("classes", [*CLASSES, 4099])
def test_the_logarithm_of_the_partition_function(classes, dtype, to_backend):
    rows = rows_of_every_kind(classes, dtype)
    logits = to_backend(rows)
    statistics = kernels.row_statistics(logits)
    table, log_partition = kernels.curve_tables(logits, statistics)
    np.testing.assert_array_equal(table, kernels.entropy_table(logits, statistics))
    nodes = kernels.ratio_grid()
    assert log_partition.shape == (len(rows), len(nodes))
    exact = rows.astype(np.float64)
    maximum = centred_maximum(rows)[:, None]
    shifted = (exact - exact.max(axis=1, keepdims=True)) / np.where(maximum > 0, maximum, 1.0)
    for k in (0, 1, 9, 40, 80, 120, 160, len(nodes) - 1):
        np.testing.assert_allclose(log_partition[:, k], logsumexp(nodes[k] * shifted, axis=1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("classes", [100, 4099])
def test_table_slopes_are_derivatives(classes):
    rows = rows_of_every_kind(classes)
    table = kernels.entropy_table(rows, kernels.row_statistics(rows))
    for k in (1, 10, 40, 60, 102, 140, 182):
        ratio = kernels.ratio_grid()[k]
        difference = entropy_at_ratio(rows, ratio + 1e-5) - entropy_at_ratio(rows, ratio - 1e-5)
        np.testing.assert_allclose(table[:, k, 1], difference / 2e-5, rtol=1e-4, atol=1e-4)


def test_the_grid_is_fine_near_zero_and_ends_at_its_maximum():
    nodes = kernels.ratio_grid()
    assert nodes[0] == 0
    assert nodes[-1] == kernels.MAX_TABLE_RATIO == 64
    assert (np.diff(nodes) > 0).all()
    assert np.diff(nodes[nodes <= 0.5]).max() == 1 / 64
    assert np.diff(nodes[nodes <= 20]).max() == 0.25
    assert np.diff(nodes[nodes <= 40]).max() == 0.5
    assert np.diff(nodes).max() == 1


@backends
@dtypes
@pytest.mark.parametrize("classes", CLASSES)
def test_kl_divergence(classes, dtype, to_backend):
    teacher = rows_of_every_kind(classes, dtype)
    teacher = teacher[np.abs(teacher).max(axis=1) < 1e3]  # a divergence of thousands has no four decimals in float32
    noise = np.random.default_rng(1).standard_normal(teacher.shape)
    student = (0.5 * teacher + noise).astype(dtype)
    taus = np.linspace(0.5, 8.0, len(teacher)).astype(np.float32)
    p = softmax(teacher.astype(np.float64) / 2.0, axis=1)
    q = softmax(student.astype(np.float64) / taus[:, None].astype(np.float64), axis=1)

    divergence = kernels.kl_divergence(to_backend(teacher), to_backend(student), 2.0, to_backend(taus))

    np.testing.assert_allclose(divergence, rel_entr(p, q).sum(axis=1), rtol=2e-6, atol=NATS)
    same = kernels.kl_divergence(to_backend(teacher), to_backend(teacher), 2.0, 2.0)
    np.testing.assert_allclose(same, 0.0, atol=1e-5)


@backends
def test_kl_divergence_of_a_float16_teacher_and_a_float32_student(to_backend):
    teacher, student = rows_of_every_kind(33, np.float16)[:5], rows_of_every_kind(33)[1:6]
    p, q = (softmax(rows.astype(np.float64), axis=1) for rows in (teacher, student))
    divergence = kernels.kl_divergence(to_backend(teacher), to_backend(student), 1.0, 1.0)
    np.testing.assert_allclose(divergence, rel_entr(p, q).sum(axis=1), rtol=0, atol=NATS)


@backends
@pytest.mark.parametrize("classes", [2, 10, 1001])
def test_infinite_temperatures_and_constant_rows_give_exactly_the_largest_entropy(classes, to_backend):
    rows = rows_of_every_kind(classes)
    logits, largest = to_backend(rows), np.float32(np.log(classes))
    statistics = kernels.row_statistics(logits)
    assert as_numpy(kernels.entropy(logits, statistics.peak, np.inf)) == pytest.approx(largest, abs=1e-6)
    constant = to_backend(np.full((2, classes), 7.3, np.float32))
    statistics = kernels.row_statistics(constant)
    table = kernels.entropy_table(constant, statistics)
    for result in (
        kernels.entropy(constant, statistics.peak, 3.0),
        kernels.first_pass(constant, rho=3.0)[1],
        kernels.first_pass(constant, tau=3.0)[1],
        kernels.entropy_sweep(constant, statistics, start=1.0, step=0.5, count=5),
        kernels.read_table(table, 2.7),
    ):
        assert as_numpy(result) == pytest.approx(largest, abs=1e-6)


@backends
@pytest.mark.parametrize("tau", [1e-45, 1e-30, 1e-6, 0.01])
def test_a_tiny_temperature_leaves_the_entropy_of_the_ties(tau, to_backend):
    rows = 1e4 * np.array([[3, 1, 2, 0], [3, 3, 1, 0], [2, 2, 2, 1], [-1, -1, -1, -1]], np.float32)
    logits = to_backend(rows)
    result = kernels.entropy(logits, to_backend(rows.max(axis=1)), tau)
    np.testing.assert_allclose(result, np.log([1, 2, 3, 4]), atol=1e-6)


@backends
def test_logits_at_the_limits_of_float32(to_backend):
    largest = np.finfo(np.float32).max
    rows = np.array([[largest, -largest, 0.0], [0.0, -largest, -largest]], np.float32)
    logits = to_backend(rows)
    for tau in (1e-6, 1.0, 100.0):
        result = kernels.entropy(logits, to_backend(rows.max(axis=1)), tau)
        np.testing.assert_allclose(result, 0.0, atol=1e-6)


@backends
def test_a_spread_too_small_for_float32_is_none(to_backend):
    rows = np.array([[1e-38, 0.0], [1e-40, -1e-40], [1e-25, 0.0]], np.float32)
    statistics, entropy = kernels.first_pass(to_backend(rows), rho=2.0)
    assert (as_numpy(statistics.maximum) > 0).tolist() == [False, False, True]
    np.testing.assert_allclose(entropy[:2], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(entropy[2:], entropy_at_ratio([[1.0, 0.0]], 2.0), rtol=1e-5)
    np.testing.assert_allclose(kernels.first_pass(to_backend(rows), tau=2.0)[1], np.log(2), rtol=1e-6)


def test_float16_subnormals_are_read_as_they_are():
    tiny = np.arange(-40, 40, dtype=np.float64) * np.finfo(np.float16).smallest_subnormal
    rows = tiny.astype(np.float16)[None]
    statistics = kernels.row_statistics(rows)
    assert statistics.peak[0] == rows.max()
    assert statistics.top1[0] == 79
    assert statistics.std[0] == pytest.approx(tiny.std(), rel=1e-5)


@dtypes
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_memory_mapped_logits(tmp_path, dtype, mode):
    rows = rows_of_every_kind(17, dtype)
    path = tmp_path / "logits.bin"
    path.write_bytes(b"head" + rows.tobytes())  # as in a file with a header of any length
    mapped = np.memmap(path, dtype, mode=mode, offset=4, shape=rows.shape)
    statistics, entropy = kernels.first_pass(mapped, tau=2.0)
    np.testing.assert_allclose(entropy, entropy_at(rows, 2.0), rtol=0, atol=NATS)
    np.testing.assert_allclose(entropy, kernels.entropy(mapped, statistics.peak, 2.0), rtol=0, atol=1e-5)
    assert type(entropy) is np.ndarray


@backends
@pytest.mark.parametrize("samples", [1, 2, 5000])
def test_any_number_of_rows(samples, to_backend):
    rows = np.random.default_rng(2).standard_normal((samples, 100)).astype(np.float32) * 3
    _, entropy = kernels.first_pass(to_backend(rows), rho=3.0)
    assert entropy.shape == (samples,)
    np.testing.assert_allclose(entropy, entropy_at_ratio(rows, 3.0), rtol=0, atol=NATS)


@backends
def test_first_pass_is_the_statistics_and_the_entropy(to_backend):
    logits = to_backend(rows_of_every_kind(100))
    statistics, entropy = kernels.first_pass(logits, tau=2.0)
    for ours, alone in zip(statistics, kernels.row_statistics(logits), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(entropy, kernels.entropy(logits, statistics.peak, 2.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "arguments", [{}, {"tau": 1.0, "rho": 1.0}, {"tau": 0.0}, {"rho": -1.0}, {"tau": float("nan")}]
)
def test_first_pass_wants_exactly_one_positive_parameter(arguments):
    with pytest.raises(ValueError, match="exactly one of `tau` and `rho`"):
        kernels.first_pass(np.zeros((1, 2), np.float32), **arguments)


@pytest.mark.parametrize(
    "arguments", [{"rho": 1.0, "floor": -1.0}, {"tau": 1.0, "floor": 1.0}, {"rho": 1, "floor": np.inf}]
)
def test_first_pass_takes_a_floor_only_beside_a_ratio(arguments):
    with pytest.raises(ValueError, match="`floor` of 0 or above, and only beside `rho`"):
        kernels.first_pass(np.zeros((1, 2), np.float32), **arguments)


@pytest.mark.parametrize("sweep", [(-1.0, 1.0, 4), (0.0, -1.0, 4), (0.0, 1.0, 0)])
def test_a_sweep_goes_up_from_zero(sweep):
    rows = np.eye(2, dtype=np.float32)
    start, step, count = sweep
    with pytest.raises(ValueError, match="start >= 0, step >= 0 and count >= 1"):
        kernels.entropy_sweep(rows, kernels.row_statistics(rows), start=start, step=step, count=count)


def test_kl_divergence_wants_equal_shapes():
    with pytest.raises(ValueError, match=r"shape \(2, 2\), but got \(1, 2\)"):
        kernels.kl_divergence(np.eye(2, dtype=np.float32), np.zeros((1, 2), np.float32), 1.0, 1.0)


def test_torch_chunks_join(monkeypatch):
    from cist_core.kernels import torch_twin

    rows = torch.from_numpy(rows_of_every_kind(33))
    statistics, whole = kernels.first_pass(rows, rho=2.0)
    results = [statistics.std, whole, kernels.entropy_table(rows, statistics), kernels.kl_divergence(rows, -rows, 9, 9)]
    monkeypatch.setattr(torch_twin, "CHUNK_VALUES", 100)
    statistics, whole = kernels.first_pass(rows, rho=2.0)
    chunked = [statistics.std, whole, kernels.entropy_table(rows, statistics), kernels.kl_divergence(rows, -rows, 9, 9)]
    for one, other in zip(results, chunked, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees():
    rows = rows_of_every_kind(1000)
    logits = torch.from_numpy(rows).cuda()
    statistics, entropy = kernels.first_pass(logits, rho=3.0)
    np.testing.assert_allclose(entropy.cpu(), entropy_at_ratio(rows, 3.0), rtol=0, atol=NATS)
    floored = kernels.first_pass(logits, rho=3.0, floor=1.0)[1].cpu()
    np.testing.assert_allclose(floored, entropy_at_cist(rows, 3.0, 1.0), rtol=0, atol=NATS)
    table = kernels.entropy_table(logits, statistics)
    np.testing.assert_allclose(kernels.read_table(table, 3.1).cpu(), entropy_at_ratio(rows, 3.1), rtol=0, atol=NATS)


# --- What holds for all rows -----------------------------------------------------------------------------------------

some_rows = st.tuples(st.integers(1, 4), st.integers(2, 70)).flatmap(
    # Multiples of 1/64: ties are frequent, and shifts are exact in float32.
    lambda shape: arrays(np.int16, shape, elements=st.integers(-3200, 3200)).map(lambda n: n / np.float32(64))
)
ratios = st.floats(0.01, 15)


@backends
@given(rows=some_rows, tau=st.floats(0.25, 20), shift=st.integers(-64, 64))
def test_entropy_ignores_a_shift(to_backend, rows, tau, shift):
    _, entropy = kernels.first_pass(to_backend(rows), tau=tau)
    statistics, shifted = kernels.first_pass(to_backend(rows + np.float32(shift)), tau=tau)
    np.testing.assert_allclose(shifted, entropy, rtol=0, atol=1e-5)
    np.testing.assert_allclose(statistics.maximum, kernels.row_statistics(to_backend(rows)).maximum, rtol=0, atol=1e-4)


@backends
@given(rows=some_rows, ratio=ratios, seed=st.integers(0, 999))
def test_entropy_ignores_the_order_of_classes(to_backend, rows, ratio, seed):
    order = np.random.default_rng(seed).permutation(rows.shape[1])
    expected = entropy_at_ratio(rows, ratio)
    _, permuted = kernels.first_pass(to_backend(np.ascontiguousarray(rows[:, order])), rho=ratio)
    np.testing.assert_allclose(permuted, expected, rtol=0, atol=NATS)


@backends
@given(rows=some_rows)
def test_entropy_falls_with_the_ratio_within_its_bounds(to_backend, rows):
    statistics = kernels.row_statistics(to_backend(rows))
    sweep = as_numpy(kernels.entropy_sweep(to_backend(rows), statistics, start=0.0, step=0.25, count=64))
    assert (np.diff(sweep, axis=1) <= 1e-5).all()
    assert sweep.min() >= 0
    assert sweep.max() <= np.float32(np.log(rows.shape[1]))
    ties = (rows == rows.max(axis=1, keepdims=True)).sum(axis=1)
    assert (sweep >= np.log(ties)[:, None] - 1e-5).all()


@backends
@given(rows=some_rows, tau=st.floats(0.25, 20))
def test_divergence_is_not_negative(to_backend, rows, tau):
    divergence = as_numpy(kernels.kl_divergence(to_backend(rows), to_backend(rows[:, ::-1].copy()), tau, 2 * tau))
    assert (divergence >= 0).all()
    assert np.isfinite(divergence).all()


@backends
def test_divergence_of_a_row_from_itself_is_0_at_any_temperature(to_backend):
    rows = to_backend(np.array([[1e4, 0.0, -1e4], [0.0, 1.0, 2.0]], np.float32))
    divergence = as_numpy(kernels.kl_divergence(rows, rows, 1e-35, 1e-35))
    np.testing.assert_allclose(divergence, 0, atol=1e-6)


@dtypes
@pytest.mark.parametrize("classes", [2, 31, 33, 500, 5000])
def test_a_pass_over_tokens(classes, dtype):
    rows = rows_of_every_kind(classes, dtype)
    actual = np.random.default_rng(0).integers(0, classes, len(rows))
    statistics, found = kernels.token_pass(rows, actual, most=32)
    for ours, known in zip(statistics, kernels.row_statistics(rows), strict=True):
        np.testing.assert_allclose(ours, known, rtol=1e-6)
    exact = rows.astype(np.float64)
    shifted = exact - exact.max(axis=1, keepdims=True)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :32]
    np.testing.assert_array_equal(found.top_classes, order)
    np.testing.assert_allclose(found.top, np.take_along_axis(shifted, order, 1), rtol=1e-6)
    of_actual = shifted[np.arange(len(rows)), actual]
    np.testing.assert_allclose(found.shifted, of_actual, rtol=1e-6)
    np.testing.assert_array_equal(found.rank, 1 + (shifted > of_actual[:, None]).sum(axis=1))
    np.testing.assert_allclose(found.log_partition, logsumexp(shifted, axis=1), rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.entropy, entropy_at(rows, 1.0), rtol=0, atol=NATS)


@dtypes
@pytest.mark.parametrize("classes", [2, 33, 1100])
def test_how_far_below_its_largest_the_student_is_where_the_teacher_looks(classes, dtype):
    teacher = rows_of_every_kind(classes, dtype)
    student = rows_of_every_kind(classes, dtype)[::-1].copy()
    table = kernels.cross_table(
        teacher,
        student,
        teacher_statistics=kernels.row_statistics(teacher),
        student_statistics=kernels.row_statistics(student),
    )
    exact, other = teacher.astype(np.float64), student.astype(np.float64)
    maximum = centred_maximum(teacher)[:, None]
    inverse = np.divide(1.0, maximum, out=np.zeros_like(maximum), where=maximum > 0)
    below = other.max(axis=1, keepdims=True) - other
    for ratio in (0.0, 0.3, 3.3, 19.1, 40.3, 64.0):
        expected = (softmax(ratio * inverse * exact, axis=1) * below).sum(axis=1)
        scale = below.max(axis=1)  # a mean of distances is as exact as the largest of them
        np.testing.assert_allclose(
            kernels.read_table(table, ratio) / scale.clip(1), expected / scale.clip(1), atol=2e-5
        )
    with pytest.raises(ValueError, match="teacher's shape"):
        kernels.cross_table(
            teacher,
            student[:, :-1],
            teacher_statistics=kernels.row_statistics(teacher),
            student_statistics=kernels.row_statistics(student),
        )


@dtypes
@pytest.mark.parametrize("classes", [15, 16, 17, 31, 512, 513])
def test_more_rows_than_are_taken_side_by_side(classes, dtype):
    rows = np.concatenate([rows_of_every_kind(classes, dtype)] * 3)[:41]
    statistics, entropy = kernels.first_pass(rows, rho=3.0)
    np.testing.assert_array_equal(statistics.top1, rows.argmax(axis=1))
    np.testing.assert_array_equal(statistics.peak, rows.max(axis=1))
    np.testing.assert_allclose(entropy, entropy_at_ratio(rows, 3.0), rtol=0, atol=NATS)
    table = kernels.entropy_table(rows, statistics)
    np.testing.assert_allclose(kernels.read_table(table, 3.0), entropy_at_ratio(rows, 3.0), rtol=0, atol=NATS)
    taus = np.linspace(0.5, 9.0, len(rows)).astype(np.float32)
    exact = kernels.entropy(rows, statistics.peak, taus)
    expected = [entropy_at(row[None], tau)[0] for row, tau in zip(rows, taus, strict=True)]
    np.testing.assert_allclose(exact, expected, rtol=0, atol=NATS)


@pytest.mark.parametrize("classes", [2, 17, 2000])
@pytest.mark.parametrize("width", [1.2, 2.7, 2.9, 40.0])
def test_nodes_of_rows_of_any_width_agree_with_scipy(width, classes):
    """Wide rows, whose lowest logit lies far below, go through recurrences where narrow ones go through series."""
    rng = np.random.default_rng(0)
    below = rng.beta(1.5, 1.5 * (width - 1), (60, classes))  # of mean 1 / width, so that 1 is so many centred maxima
    below[20:40] = rng.random((20, classes)) < 1 / width
    below[40:] = rng.beta(0.2, 0.2 * (width - 1), (20, classes))
    below[:, 0], below[:, 1] = 0.0, 1.0
    logits = (-7.0 * below).astype(np.float32)
    statistics = kernels.row_statistics(logits)
    table, log_partition = kernels.curve_tables(logits, statistics)
    exact = logits.astype(np.float64)
    shifted = (exact - exact.max(axis=1, keepdims=True)) / (exact.max(axis=1) - exact.mean(axis=1))[:, None]
    for k in range(1, len(kernels.RATIO_GRID), 7):
        ratio = kernels.RATIO_GRID[k]
        p = softmax(ratio * shifted, axis=1)
        mean = (p * shifted).sum(axis=1)
        np.testing.assert_allclose(table[:, k, 0], scipy_entropy(p, axis=1), atol=2e-5)
        np.testing.assert_allclose(log_partition[:, k], logsumexp(ratio * shifted, axis=1), atol=2e-5)
        slope = -ratio * ((p * shifted**2).sum(axis=1) - mean**2)
        np.testing.assert_allclose(table[:, k, 1], slope, atol=1e-4)


SAMPLES = {
    "of every kind": np.random.default_rng(0).normal(size=5_000),
    "few and negative": np.random.default_rng(1).integers(-3, 4, 5_000) / 2,
    "zeros of both signs": np.array([0.0, -0.0, 1e-45, -1e-45, -0.0]),
    "equal": np.full(9, 3.0),
    "infinite": np.array([np.inf, 0.0, -np.inf, 1.0]),
}


@pytest.mark.parametrize("values", SAMPLES.values(), ids=SAMPLES)
def test_ranks_are_those_of_scipy_ties_included(values):
    np.testing.assert_array_equal(kernels.ranks(values.astype(np.float32)), rankdata(values.astype(np.float32)))
    np.testing.assert_array_equal(kernels.ranks(values), rankdata(values.astype(np.float32)))


@given(arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32, allow_nan=False)))
def test_any_number_has_its_rank(values):
    np.testing.assert_array_equal(kernels.ranks(values), rankdata(values))


def test_a_correlation_is_that_of_numpy():
    a, b = np.random.default_rng(0).normal(5, 1, size=(2, 3_000))
    b += a
    for first, second in ((a, b), (a.astype(np.float32), -b), (a.astype(np.float16), np.round(b).astype(int))):
        expected = np.corrcoef(first.astype(np.float64), second)[0, 1]
        assert kernels.correlation(first, second) == pytest.approx(expected, rel=1e-12)


def test_a_grid_counts_the_chosen_and_what_lies_beyond_it_in_its_outermost_cells():
    rng = np.random.default_rng(0)
    across, up = rng.uniform(-0.5, 2.5, 4_000), rng.uniform(-1, 4, 4_000).astype(np.float32)
    across[:2] = np.inf, -np.inf
    chosen = rng.uniform(size=4_000) < 0.7
    inside = np.clip(across, 0, 2)[chosen], np.clip(up, 0, 3)[chosen]
    expected, _, _ = np.histogram2d(*inside, bins=(7, 5), range=((0, 2), (0, 3)))
    counts = kernels.grid_counts(across, up, chosen, ends=(2.0, 3.0), cells=(7, 5))
    np.testing.assert_array_equal(counts, expected)
    assert not kernels.grid_counts(across, up, np.zeros(4_000, bool), ends=(2.0, 3.0), cells=(7, 5)).any()


def test_groups_of_neighbours_are_equal_and_ties_never_part():
    values, of = np.arange(12.0), np.array([5, 1, 1, 1, 7, 9, 8, 2, 3, 6, 0, 4.0])
    sizes, sums = kernels.group_sums(kernels.ranks(of), values, 3)
    assert sizes.tolist() == [4, 4, 4]
    assert sums.tolist() == [1 + 2 + 3 + 10, 7 + 8 + 11 + 0, 9 + 4 + 6 + 5]
    sizes, _ = kernels.group_sums(kernels.ranks(np.ones(12)), values, 3)
    assert sorted(sizes.tolist()) == [0, 0, 12]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mean_and_variance_keep_the_digits_of_many_values_far_from_zero(dtype):
    values = np.random.default_rng(0).normal(1e4, 0.3, 200_000).astype(dtype)
    mean, variance = kernels.mean_and_variance(values)
    exact = values.astype(np.float64)
    assert mean == pytest.approx(exact.mean(), rel=1e-13)
    assert variance == pytest.approx(exact.var(), rel=1e-9)
    assert kernels.mean_and_variance(np.full(70_000, dtype(0.1))) == (
        pytest.approx(dtype(0.1), rel=1e-12),
        pytest.approx(0, abs=1e-20),
    )


@dtypes
@pytest.mark.parametrize("classes", [2, 3, 10, 15, 16])
@pytest.mark.parametrize("rows", [1, 16, 17, 40])
def test_few_classes_are_read_to_their_end_and_no_further(rows, classes, dtype):
    """Rows are loaded with numbers of those that follow, as far as there are any."""
    logits = (np.random.default_rng(rows).standard_normal((rows, classes)) * 3).astype(dtype)
    statistics, entropy = kernels.first_pass(logits, tau=1.5)
    expected = entropy_at(logits, 1.5)
    np.testing.assert_allclose(entropy, expected, rtol=0, atol=NATS)
    np.testing.assert_allclose(kernels.entropy(logits, statistics.peak, 1.5), expected, rtol=0, atol=NATS)
    for found in (statistics, kernels.row_statistics(logits)):
        np.testing.assert_array_equal(found.top1, logits.argmax(axis=1))
        np.testing.assert_array_equal(found.peak, logits.max(axis=1).astype(np.float32))
        np.testing.assert_allclose(found.maximum, centred_maximum(logits), rtol=1e-5, atol=1e-6)
