"""Tables that are kept on the disk: right, found again, bounded, and never believed where they are not."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import special, stats

from cist_core import kernels
from cist_core.checksums import CHECKSUM, checksum
from cist_core.compare.matching import matched_pair
from cist_core.entropy import curves as curves_module
from cist_core.entropy import table_cache
from cist_core.entropy.curves import EntropyCurves
from cist_core.errors import CistError, CistWarning
from cist_core.kernels import cpu
from cist_core.logits import known_files
from cist_core.logits.logit_set import LogitSet, safetensors_header
from tests.damaged_files import with_flipped_bits

OPEN = """
import sys
from cist_core import EntropyCurves, LogitSet
from cist_core.entropy import table_cache
from cist_core.logits import known_files
known_files.WORTH_BYTES = 0
def refuse(*arguments):
    raise AssertionError("made or read again")
table_cache.write_table = table_cache.table_digests = refuse
print(repr(float(EntropyCurves.tabulated(LogitSet.load(sys.argv[1])).at_ratio(3.3).astype(float).sum())))
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_files, "WORTH_BYTES", 0)
    monkeypatch.setattr(known_files, "REMEMBERED", {})
    return tmp_path / "cache" / "curves"


@pytest.fixture
def made(monkeypatch):
    """How many tables were made."""
    counted = []
    write = table_cache.write_table
    monkeypatch.setattr(table_cache, "write_table", lambda *given: (counted.append(1), write(*given))[1])
    return counted


def example(samples=400, classes=30, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(samples, classes)) * rng.uniform(0.2, 4, (samples, 1))
    logits[np.arange(samples), rng.integers(0, classes, samples)] += rng.gamma(3, 3, samples)
    logits[5] = 1.5
    return LogitSet.create(logits.astype(np.float16), rng.integers(0, classes, samples))


def scipy_entropy(logit_set, tau):
    return stats.entropy(special.softmax(logit_set.logits.astype(np.float64) / tau, axis=1), axis=1)


def one_file(cache):
    (path,) = cache.glob("*/*.safetensors")
    return path


def one_of(cache):
    return next(cache.glob("*/*.safetensors"))


def test_entropies_agree_with_scipy_within_the_table_and_beyond(cache):
    logit_set = example()
    curves = EntropyCurves.tabulated(logit_set)
    exact = EntropyCurves.from_logits(logit_set)
    for column, expected in zip(curves.statistics, exact.statistics, strict=True):
        np.testing.assert_array_equal(column, expected)
    largest = curves.statistics.maximum.max()
    for tau in (20.0, 3.0, 1.0, 0.4, largest / 65, largest / 300):
        np.testing.assert_allclose(curves.at_temperature(tau), scipy_entropy(logit_set, tau), atol=1e-4)
    maximum = curves.statistics.maximum.astype(np.float64)
    for ratio in (0.3, 4.0, 63.9, 64.5, 200.0):
        tau = np.where(maximum > 0, maximum, 1)[:, None] / ratio
        np.testing.assert_allclose(curves.at_ratio(ratio), scipy_entropy(logit_set, tau), atol=1e-4)
    assert (curves.max_ratio, curves.lowest_temperature, curves.exact) == (np.inf, 0.0, False)
    np.testing.assert_allclose(curves.at_ratios(0.5, 0.5, 5), exact.at_ratios(0.5, 0.5, 5), atol=1e-4)


def test_another_process_reads_the_table_without_making_or_hashing_it(tmp_path, cache):
    path = tmp_path / "logits.safetensors"
    example().save(path)
    expected = EntropyCurves.tabulated(LogitSet.load(path)).at_ratio(3.3).astype(float).sum()
    output = subprocess.run([sys.executable, "-c", OPEN, path], check=True, capture_output=True, text=True).stdout
    assert float(output) == expected


def test_it_is_made_once_for_equal_content_and_anew_for_other(cache, made):
    for seed in (0, 0, 1):
        EntropyCurves.tabulated(example(seed=seed))
    assert len(made) == 2
    assert len(list(cache.iterdir())) == 2


def test_threads_that_open_one_set_make_one_table(cache, made):
    logit_set = example()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: EntropyCurves.tabulated(logit_set).at_ratio(2.0), range(4)))
    assert len(made) == 1
    assert all(np.array_equal(found[0], other) for other in found)


def test_flipped_bits_are_noticed(cache, made):
    logit_set = example()
    expected = EntropyCurves.tabulated(logit_set).at_ratio(3.3)
    path, rng = one_file(cache), np.random.default_rng(2)
    whole = path.read_bytes()
    for flips in (1, 1, 1, 64):
        path.write_bytes(with_flipped_bits(whole, flips, rng))
        np.testing.assert_array_equal(EntropyCurves.tabulated(logit_set).at_ratio(3.3), expected)
        assert path.read_bytes() == whole
    assert len(made) == 5


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "of other logits", "another grid", "of pickles"])
def test_what_is_no_table_of_these_curves_is_made_anew(cache, made, damage):
    logit_set = example()
    expected = EntropyCurves.tabulated(logit_set).at_ratio(3.3)
    path = one_file(cache)
    whole = path.read_bytes()
    if damage == "of other logits":  # of the right shape, whole, with a checksum
        path.unlink()
        table_cache.write_table(path, example(seed=1))
        made.pop()
    else:
        path.write_bytes(
            {
                "cut": whole[: len(whole) // 2],
                "empty": b"",
                "text": b"no table",
                "another grid": safetensors_header({}, [("table", np.dtype(np.float32), (3, 400, 2))]) + bytes(9600),
                "of pickles": b"\x80\x04\x95" + bytes(200),
            }[damage]
        )
    np.testing.assert_array_equal(EntropyCurves.tabulated(logit_set).at_ratio(3.3), expected)
    assert len(made) == 2
    assert path.read_bytes() == whole


def forge(path, logit_set, rows, *, maximum=1.0):
    """Other numbers in some rows, under a checksum of their own."""
    metadata, tensors = table_cache.map_safetensors(path)
    changed = {name: array.copy() for name, array in tensors.items()}
    changed["table"][:, rows, 0] *= 0.5
    changed["maximum"][rows] *= maximum
    metadata[CHECKSUM] = checksum(metadata, table_cache.table_digests(changed))
    layout = table_cache.table_layout(logit_set.num_samples)
    content = b"".join(changed[name].tobytes() for name, _, _ in layout)
    path.write_bytes(safetensors_header(metadata, layout) + content)


def test_a_forged_table_is_noticed_by_its_rows(cache, made):
    logit_set = example()
    expected = EntropyCurves.tabulated(logit_set).at_ratio(3.3)
    forge(one_file(cache), logit_set, slice(None))
    np.testing.assert_array_equal(EntropyCurves.tabulated(logit_set).at_ratio(3.3), expected)
    assert len(made) == 2


@pytest.mark.parametrize("given", [{"tau": 2.0}, {"rho": 4.0}, {"mean_entropy": 1.0}])
def test_a_matched_pair_is_confirmed_and_computed_where_the_table_is_wrong(cache, made, given):
    logit_set = example(samples=4000)
    wanted = matched_pair(EntropyCurves.from_logits(logit_set), **given)
    right = EntropyCurves.tabulated(logit_set)
    pair = matched_pair(right, **given)
    assert (pair.tau, pair.rho) == pytest.approx((wanted.tau, wanted.rho), rel=1e-3)
    assert pair.mean_entropy == pytest.approx(wanted.mean_entropy, abs=1e-4)
    assert not right.exact

    forge(one_file(cache), logit_set, slice(1, 60))  # between the rows that are looked at when it is opened
    curves = EntropyCurves.tabulated(logit_set)
    assert len(made) == 1
    found = matched_pair(curves, **given)
    assert (found.tau, found.rho) == pytest.approx((wanted.tau, wanted.rho), rel=1e-6)
    assert curves.exact
    EntropyCurves.tabulated(logit_set)
    assert len(made) == 2


def test_statistics_of_a_table_that_is_wrong_are_not_used_either(cache):
    logit_set = example(samples=4000)
    right = EntropyCurves.from_logits(logit_set)
    EntropyCurves.tabulated(logit_set)
    forge(one_file(cache), logit_set, slice(1, 60), maximum=3.0)
    curves = EntropyCurves.tabulated(logit_set)
    centred = logit_set.logits.astype(np.float64)
    expected = (centred - centred.mean(axis=1, keepdims=True)).max(axis=1)
    assert curves.statistics.maximum.max() > 1.5 * expected.max()
    assert curves.correct is not None  # kept from the same statistics
    found, wanted = matched_pair(curves, tau=2.0), matched_pair(right, tau=2.0)
    np.testing.assert_allclose(curves.statistics.maximum, expected, rtol=1e-3, atol=1e-4)
    assert np.array_equal(curves.correct, logit_set.logits.argmax(axis=1) == logit_set.labels)
    assert (found.tau, found.rho) == pytest.approx((wanted.tau, wanted.rho), rel=1e-6)
    assert found.mean_entropy == pytest.approx(scipy_entropy(logit_set, 2.0).mean(), abs=1e-4)


def test_only_the_first_pair_goes_through_the_logits(cache, monkeypatch):
    curves = EntropyCurves.tabulated(example())
    passes = []
    entropy = cpu.entropy
    monkeypatch.setattr(cpu, "entropy", lambda *given: (passes.append(1), entropy(*given))[1])
    for tau in (4.0, 5.0, 6.0):
        matched_pair(curves, tau=tau)
    assert len(passes) == 1


def test_the_tables_opened_longest_ago_make_room_for_a_new_one(cache, monkeypatch):
    sets = [example(seed=seed) for seed in range(3)]
    EntropyCurves.tabulated(sets[0])
    monkeypatch.setattr(table_cache, "MOST_BYTES", 5 * one_file(cache).stat().st_size // 2)
    EntropyCurves.tabulated(sets[1])
    EntropyCurves.tabulated(sets[0])
    EntropyCurves.tabulated(sets[2])
    kept = {path.name.partition("-")[0] for path in cache.iterdir()}
    assert kept == {sets[0].fingerprint, sets[2].fingerprint}


def test_a_table_that_is_being_written_is_not_removed(cache, monkeypatch):
    sets = [example(seed=seed) for seed in range(3)]
    for each in sets[:2]:
        EntropyCurves.tabulated(each)
    written = table_cache.table_file(sets[0]).parent / f".curves.safetensors.{os.getpid()}.partial"
    written.touch()
    monkeypatch.setattr(table_cache, "MOST_BYTES", 5 * table_cache.table_file(sets[0]).stat().st_size // 2)
    EntropyCurves.tabulated(sets[2])
    assert {path.name.partition("-")[0] for path in cache.iterdir()} == {sets[0].fingerprint, sets[2].fingerprint}


@pytest.mark.parametrize("enough", [True, False])
def test_on_a_small_disk_other_tables_go_only_if_that_is_enough(cache, monkeypatch, enough):
    sets = [example(seed=seed) for seed in range(3)]
    for each in sets[:2]:
        EntropyCurves.tabulated(each)
    size = one_of(cache).stat().st_size
    total = (2.5 if enough else 0.5) * size

    def usage(_: object) -> SimpleNamespace:
        used = sum(file.stat().st_size for file in cache.glob("*/*"))
        return SimpleNamespace(free=int(total - used if enough else total - 2 * size))

    monkeypatch.setattr("cist_core.logits.scratch.KEPT_FREE_BYTES", 0)
    monkeypatch.setattr("cist_core.logits.scratch.shutil.disk_usage", usage)
    if enough:
        EntropyCurves.tabulated(sets[2])
    else:
        with pytest.raises(CistError, match="CIST_CACHE"):
            EntropyCurves.tabulated(sets[2])
    kept = {path.parent.name.partition("-")[0] for path in cache.glob("*/curves.safetensors")}
    assert kept == {each.fingerprint for each in (sets[1:] if enough else sets[:2])}


def test_a_table_that_is_there_is_read_while_another_is_made(cache, monkeypatch):
    there, other = example(seed=0), example(seed=1)
    EntropyCurves.tabulated(there)
    write = table_cache.write_table
    meanwhile = []

    def slow(*given: object) -> None:
        with ThreadPoolExecutor(1) as pool:
            meanwhile.append(pool.submit(EntropyCurves.tabulated, there).result(timeout=60))
        write(*given)

    monkeypatch.setattr(table_cache, "write_table", slow)
    EntropyCurves.tabulated(other)
    assert not meanwhile[0].exact


@pytest.mark.parametrize("why", ["too large", "full disk", "no folder"])
def test_without_room_curves_are_computed(cache, monkeypatch, why, tmp_path):
    logit_set = example()
    monkeypatch.setattr(curves_module, "TABULATED_LOGITS", 1)
    monkeypatch.setattr(curves_module, "TABULATED_CLASSES", 2)
    if why == "too large":
        monkeypatch.setattr(table_cache, "MOST_BYTES", 1000)
        words = "more than the .* GiB that all tables may take"
    elif why == "full disk":
        monkeypatch.setattr("cist_core.logits.scratch.KEPT_FREE_BYTES", 1 << 60)
        words = "CIST_CACHE"
    else:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("CIST_CACHE", str(tmp_path / "file"))
        words = "CIST_CACHE"
    with pytest.raises(CistError, match=words):
        EntropyCurves.tabulated(logit_set)
    with pytest.warns(CistWarning, match=words):
        curves = EntropyCurves.open(logit_set)
    assert curves.exact
    np.testing.assert_allclose(curves.at_temperature(2.0), scipy_entropy(logit_set, 2.0), atol=1e-4)


def test_many_logits_of_many_classes_are_opened_with_a_table(cache, monkeypatch):
    logit_set = example()
    assert EntropyCurves.open(logit_set).exact
    monkeypatch.setattr(curves_module, "TABULATED_LOGITS", logit_set.logits.size)
    assert EntropyCurves.open(logit_set).exact  # 30 classes are computed as quickly as read
    monkeypatch.setattr(curves_module, "TABULATED_CLASSES", 30)
    assert not EntropyCurves.open(logit_set).exact


def test_a_table_is_filled_in_place():
    logit_set = example()
    statistics = kernels.row_statistics(logit_set.logits)
    table = np.empty((len(kernels.RATIO_GRID), 400, 2), np.float32)
    kernels.fill_table(logit_set.logits, statistics, table)
    np.testing.assert_array_equal(table.transpose(1, 0, 2), kernels.entropy_table(logit_set.logits, statistics))
