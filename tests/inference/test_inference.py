import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from resources import file_size_limit
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from cist_core.data.dataset import ImageDataset
from cist_core.data.loading import load_dataset
from cist_core.errors import BrokenOff, Cancelled, CistError, CistWarning
from cist_core.inference.run import choose_device, fit_data, infer
from cist_core.logits.cache import LogitWriter
from cist_core.zoo.architectures import ARCHITECTURES, create_model
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.teacher import Teacher

SAMPLES = 60


@pytest.fixture
def dataset() -> ImageDataset:
    images = np.random.default_rng(0).integers(0, 256, (SAMPLES, 28, 28, 1), np.uint8)
    labels = np.arange(SAMPLES) % 10
    return ImageDataset("noise", "all", images, labels, tuple("0123456789"), "noise")


def _teacher(model: nn.Module, **changes: object) -> Teacher:
    preprocessing = ARCHITECTURES["mlp_14x14"].preprocessing
    return replace(Teacher("toy", model.eval(), "toy", 10, None, preprocessing, "0" * 64), **changes)


@pytest.fixture
def teacher() -> Teacher:
    torch.manual_seed(0)
    return _teacher(create_model("cnn_16_32", num_classes=10))


def _reference(teacher: Teacher, dataset: ImageDataset) -> np.ndarray:
    """The same network in double precision, all images at once."""
    mean, std = teacher.preprocessing.mean, teacher.preprocessing.std
    pixels = (np.asarray(dataset.images, np.float64) / 255 - mean) / std
    model = create_model("cnn_16_32", num_classes=10).double().eval()
    model.load_state_dict(teacher.model.state_dict())
    with torch.inference_mode():
        return model(torch.from_numpy(pixels.transpose(0, 3, 1, 2))).numpy()


@pytest.mark.parametrize("batch_size", [1, 7, 60, 1000, None])
def test_logits_are_the_networks(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path, batch_size: int | None
) -> None:
    result = infer(teacher, dataset, device="cpu", batch_size=batch_size, cache_dir=tmp_path)
    assert result.logit_set.logits.dtype == np.float32
    np.testing.assert_allclose(result.logit_set.logits, _reference(teacher, dataset), atol=1e-4)
    np.testing.assert_array_equal(result.logit_set.labels, dataset.labels)
    assert not result.cached
    assert result.samples_per_second > 0


def test_provenance_says_where_the_logits_came_from(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    logit_set = infer(teacher, dataset, device="cpu", cache_dir=tmp_path, limit=20).logit_set
    assert logit_set.class_names == dataset.class_names
    expected = {
        "teacher": "toy",
        "architecture": "toy",
        "checkpoint_sha256": "0" * 64,
        "data": "noise",
        "split": "all",
        "data_fingerprint": dataset.fingerprint,
        "images": "noise",
        "samples": "20 of 60",
        "precision": "float32",
    }
    assert expected.items() <= dict(logit_set.provenance).items()


def test_result_is_mapped_from_the_cache_not_held_in_memory(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path
) -> None:
    logits = infer(teacher, dataset, device="cpu", cache_dir=tmp_path).logit_set.logits
    assert isinstance(logits, np.memmap)
    assert len(list((tmp_path / "logits").iterdir())) == 1


def test_logits_that_were_not_read_for_longest_make_room(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = infer(teacher, dataset, device="cpu", cache_dir=tmp_path, limit=20)
    (oldest,) = (tmp_path / "logits").iterdir()
    os.utime(oldest, (1_000_000, 1_000_000))
    monkeypatch.setenv("CIST_CACHE_BYTES", str(2 * oldest.stat().st_size))
    with pytest.warns(CistWarning, match="1 that was not read for longest made room"):
        infer(teacher, dataset, device="cpu", cache_dir=tmp_path, limit=21)
    assert not oldest.exists()
    np.testing.assert_array_equal(first.logit_set.logits.shape, (20, 10))  # whoever has it open keeps it
    assert np.isfinite(first.logit_set.logits).all()
    monkeypatch.setenv("CIST_CACHE_BYTES", "all of it")
    with pytest.raises(CistError, match="CIST_CACHE_BYTES"):
        infer(teacher, dataset, device="cpu", cache_dir=tmp_path, limit=20)


class Counting(nn.Module):
    """A linear model that counts the batches it sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(28 * 28, 10)
        self.batches: list[int] = []
        self.before: Callable[[int], None] = lambda size: None

    def __deepcopy__(self, memo: dict[int, object]) -> "Counting":
        return self

    def forward(self, x: Tensor) -> Tensor:
        size = int(x.shape[0])  # not traceable, so this code runs for every batch
        self.before(size)
        self.batches.append(size)
        return self.linear(torch.flatten(x, 1))


def test_large_images_are_taken_in_batches_that_keep_the_threads_busy(tmp_path: Path) -> None:
    images = np.zeros((40, 160, 160, 1), np.uint8)
    large = ImageDataset("large", "all", images, np.arange(40) % 10, tuple("0123456789"), "large")
    model = Counting()
    model.linear = nn.Linear(160 * 160, 10)
    reads = Preprocessing((0.0,), (1.0,), 160)
    infer(_teacher(model, preprocessing=reads), large, device="cpu", cache_dir=tmp_path)
    assert model.batches == [32, 8]


def test_second_run_is_a_cache_hit(dataset: ImageDataset, tmp_path: Path) -> None:
    model = Counting()
    first = infer(_teacher(model), dataset, device="cpu", batch_size=20, cache_dir=tmp_path)
    calls = len(model.batches)
    seen: list[tuple[int, int]] = []
    second = infer(
        _teacher(model),
        dataset,
        device="cpu",
        batch_size=7,
        cache_dir=tmp_path,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert (first.cached, second.cached) == (False, True)
    assert len(model.batches) == calls
    assert seen == [(SAMPLES, SAMPLES)]
    np.testing.assert_array_equal(first.logit_set.logits, second.logit_set.logits)


def test_whatever_decides_the_logits_is_in_the_key(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    infer(teacher, dataset, device="cpu", cache_dir=tmp_path)
    pixels = np.array(dataset.images)
    pixels[3, 4, 5] ^= 1
    shifted = Preprocessing((0.2,), (0.3,), 28)
    others: list[tuple[Teacher, ImageDataset, dict[str, object]]] = [
        (replace(teacher, checkpoint_sha256="1" * 64), dataset, {}),
        (replace(teacher, preprocessing=shifted), dataset, {}),
        (teacher, replace(dataset, images=pixels), {}),
        (teacher, replace(dataset, labels=dataset.labels[::-1]), {}),
        (teacher, dataset, {"limit": 10}),
        (teacher, dataset, {"precision": "bfloat16"}),
    ]
    for other_teacher, other_dataset, options in others:
        assert not infer(other_teacher, other_dataset, device="cpu", cache_dir=tmp_path, **options).cached


def test_a_hit_is_described_as_this_call_describes_it(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    first = infer(teacher, dataset, device="cpu", cache_dir=tmp_path)
    names = tuple("abcdefghij")
    renamed = replace(dataset, name="other data", split="test", source="/elsewhere", class_names=names)
    hit = infer(replace(teacher, name="other teacher"), renamed, device="cpu", cache_dir=tmp_path)
    assert hit.cached
    assert hit.logit_set.class_names == names
    described = {"teacher": "other teacher", "data": "other data", "split": "test", "images": "/elsewhere"}
    assert dict(hit.logit_set.provenance) == {**first.logit_set.provenance, **described}
    assert hit.logit_set.provenance["content_sha256"] == hit.logit_set.fingerprint == first.logit_set.fingerprint

    unnamed = infer(teacher, replace(dataset, class_names=None), device="cpu", cache_dir=tmp_path)
    assert unnamed.cached
    assert unnamed.logit_set.class_names is None
    again = infer(teacher, dataset, device="cpu", cache_dir=tmp_path)
    assert (again.logit_set.class_names, again.logit_set.provenance) == (
        dataset.class_names,
        first.logit_set.provenance,
    )


@pytest.mark.parametrize("damage", ["flipped bit", "cut off", "emptied", "header"])
def test_damaged_entry_is_computed_again(teacher: Teacher, dataset: ImageDataset, tmp_path: Path, damage: str) -> None:
    original = infer(teacher, dataset, device="cpu", cache_dir=tmp_path).logit_set.logits.copy()
    (entry,) = (tmp_path / "logits").iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "flipped bit":
        content[-5] ^= 1
    if damage == "header":
        content[20] ^= 255
    entry.write_bytes(content[: {"cut off": len(content) - 100, "emptied": 0}.get(damage, len(content))])
    repaired = infer(teacher, dataset, device="cpu", cache_dir=tmp_path)
    assert not repaired.cached
    np.testing.assert_allclose(repaired.logit_set.logits, original, rtol=1e-5, atol=1e-5)
    assert infer(teacher, dataset, device="cpu", cache_dir=tmp_path).cached


def test_progress_counts_samples(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    infer(
        teacher,
        dataset,
        device="cpu",
        batch_size=25,
        cache_dir=tmp_path,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(25, 60), (50, 60), (60, 60)]


def test_cancelling_stops_between_batches_and_keeps_nothing(dataset: ImageDataset, tmp_path: Path) -> None:
    model = Counting()
    with pytest.raises(Cancelled, match="stopped after 20 of 60 samples"):
        infer(
            _teacher(model),
            dataset,
            device="cpu",
            batch_size=10,
            cache_dir=tmp_path,
            should_stop=lambda: len(model.batches) >= 2,
        )
    assert list((tmp_path / "logits").iterdir()) == []


def test_interrupt_keeps_what_was_done(dataset: ImageDataset, tmp_path: Path) -> None:
    model = Counting()

    def interrupt(size: int) -> None:
        if len(model.batches) == 2:
            raise KeyboardInterrupt

    model.before = interrupt
    with pytest.raises(KeyboardInterrupt):
        infer(_teacher(model), dataset, device="cpu", batch_size=10, cache_dir=tmp_path)
    assert not list((tmp_path / "logits").glob("*.safetensors"))

    done, model.before = sum(model.batches), lambda size: None
    resumed = infer(_teacher(model), dataset, device="cpu", batch_size=10, cache_dir=tmp_path)
    assert (resumed.resumed, resumed.cached) == (done, False)
    assert sum(model.batches) == done + SAMPLES - resumed.resumed
    whole = infer(_teacher(model), dataset, device="cpu", batch_size=10, cache_dir=tmp_path / "afresh")
    np.testing.assert_array_equal(resumed.logit_set.logits, whole.logit_set.logits)
    assert [path.suffix for path in (tmp_path / "logits").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("broken_off", [KeyboardInterrupt, BrokenOff])
def test_what_was_done_is_gone_on_with_on_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_off: type[BaseException]
) -> None:
    logits = np.random.default_rng(0).normal(size=(1000, 100)).astype(np.float32)
    opened = Path.open

    def full(path: Path, mode: str = "r", **options: object) -> object:
        if "rows" in path.name and mode[0] in "wa":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return opened(path, mode, **options)

    def writer() -> LogitWriter:
        described = {"class_names": None, "provenance": {"teacher": "toy"}}
        return LogitWriter(tmp_path / "entry.safetensors", logits.shape, None, resumable=True, **described)

    def interrupt(interrupted: LogitWriter) -> None:
        with interrupted:
            interrupted.logits[:600] = logits[:600]
            interrupted.keep(600)
            raise broken_off

    with pytest.raises(broken_off):
        interrupt(writer())
    monkeypatch.setattr(Path, "open", full)
    with writer() as resumed:
        assert resumed.done == 600
        resumed.logits[600:] = logits[600:]
        resumed.keep(1000)
        np.testing.assert_array_equal(resumed.finish().logits, logits)


KILLED_RUN = """
import os, signal, sys, time
from cist_core.data.loading import load_dataset
from cist_core.inference.run import infer
from cist_core.zoo.teachers import load_teacher

def kill(done, total):
    time.sleep(1.05)  # what is done is written down once a second
    if done >= 750:
        os.kill(os.getpid(), signal.SIGKILL)

infer(load_teacher("mnist5k-mlp"), load_dataset("mnist-5k"), device="cpu", cache_dir=sys.argv[1], progress=kill)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_killed_run_is_gone_on_with_from_rows_that_are_right(tmp_path: Path) -> None:
    from cist_core.zoo.teachers import load_teacher

    killed = subprocess.run([sys.executable, "-c", KILLED_RUN, str(tmp_path / "killed")], check=False)
    assert killed.returncode == -signal.SIGKILL
    teacher, dataset = load_teacher("mnist5k-mlp"), load_dataset("mnist-5k")
    whole = infer(teacher, dataset, device="cpu", cache_dir=tmp_path / "afresh")
    for damage in ("none", "a row", "the list"):
        folder = tmp_path / damage
        shutil.copytree(tmp_path / "killed", folder)
        assert not list((folder / "logits").glob("*.safetensors"))
        (partial,) = (folder / "logits").glob(".*.resume")
        rows = partial.with_name(f"{partial.name}.rows")
        ends = [int(line.split()[0]) for line in rows.read_text().splitlines()]
        assert len(ends) >= 2
        kept = {"none": ends[-1], "a row": ends[-2], "the list": 0}[damage]
        if damage == "a row":  # among the last that are listed
            with partial.open("r+b") as stream:
                stream.seek(partial.stat().st_size - 4 * 10 * (dataset.num_samples - ends[-1] + 1))
                stream.write(b"\xff" * 4)
        elif damage == "the list":
            rows.write_bytes(b"\x00" * 100)
        found = infer(teacher, dataset, device="cpu", cache_dir=folder)
        assert (found.resumed, found.cached) == (kept, False)
        np.testing.assert_array_equal(found.logit_set.logits, whole.logit_set.logits)
        assert not partial.exists()
        assert not rows.exists()


def _cpu_memory_error() -> RuntimeError:
    """What torch raises, in its own words: no machine has a pebibyte."""
    with pytest.raises(RuntimeError, match="memory") as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("MPS backend out of memory"), _cpu_memory_error()],
    ids=["cuda", "mps", "cpu"],
)
def test_batch_is_halved_until_it_fits(dataset: ImageDataset, tmp_path: Path, error: RuntimeError) -> None:
    model = Counting()

    def small_memory(size: int) -> None:
        if size > 8:
            raise error

    model.before = small_memory
    result = infer(_teacher(model), dataset, device="cpu", batch_size=50, cache_dir=tmp_path)
    assert model.batches == [6] * 10
    assert result.reduced_batch == 6
    model.before = lambda size: None
    whole = infer(_teacher(model), dataset, device="cpu", batch_size=60, cache_dir=tmp_path / "other")
    assert whole.reduced_batch is None
    np.testing.assert_allclose(result.logit_set.logits, whole.logit_set.logits, atol=1e-5)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _watched(watch: Callable[[Tensor], None]) -> Teacher:
    """A network that can be traced, which calls ``watch`` with each batch."""
    torch.manual_seed(0)
    linear = nn.Linear(28 * 28, 10)
    compute = linear.forward
    linear.forward = lambda pixels: (watch(pixels), compute(pixels))[1]
    return _teacher(nn.Sequential(nn.Flatten(), linear))


@pytest.mark.usefixtures("two_threads")
def test_a_traced_network_computes_a_batch_in_each_thread(dataset: ImageDataset, tmp_path: Path) -> None:
    together = threading.Barrier(2, timeout=60)
    threads: set[int] = set()

    def watch(pixels: Tensor) -> None:
        together.wait()  # breaks unless two are at it
        assert torch.get_num_threads() == 1
        threads.add(threading.get_ident())

    teacher = _watched(watch)
    found = infer(teacher, dataset, device="cpu", batch_size=10, cache_dir=tmp_path).logit_set.logits
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    assert torch.get_num_threads() == 2
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cist-ahead")]
    together.abort()
    with torch.inference_mode():
        pixels = teacher.preprocessing(torch.from_numpy(np.asarray(dataset.images)))
        exact = torch.nn.functional.linear(pixels.flatten(1), teacher.model[1].weight, teacher.model[1].bias)
    np.testing.assert_allclose(found, exact.numpy(), atol=1e-5)


@pytest.mark.usefixtures("two_threads")
def test_logits_do_not_depend_on_the_number_of_threads(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    two = infer(teacher, dataset, device="cpu", batch_size=10, cache_dir=tmp_path / "two").logit_set
    torch.set_num_threads(1)
    one = infer(teacher, dataset, device="cpu", batch_size=10, cache_dir=tmp_path / "one").logit_set
    np.testing.assert_array_equal(one.logits, two.logits)


@pytest.mark.usefixtures("two_threads")
def test_batches_side_by_side_go_one_after_the_other_where_memory_runs_out(
    dataset: ImageDataset, tmp_path: Path
) -> None:
    sizes: list[int] = []

    def watch(pixels: Tensor) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise torch.OutOfMemoryError("out of memory")
        sizes.append(len(pixels))

    result = infer(_watched(watch), dataset, device="cpu", batch_size=8, cache_dir=tmp_path)
    assert sizes == [8] * 7 + [4]
    assert result.reduced_batch == 8


@pytest.mark.usefixtures("two_threads")
def test_a_network_with_a_hook_is_computed_in_one_thread(dataset: ImageDataset, tmp_path: Path) -> None:
    threads: set[int] = set()
    network = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 10))
    network[1].register_forward_hook(lambda *given: threads.add(threading.get_ident()))
    infer(_teacher(network), dataset, device="cpu", batch_size=10, cache_dir=tmp_path)
    assert threads == {threading.get_ident()}


def test_passes_that_overlap_leave_torch_its_threads(dataset: ImageDataset, tmp_path: Path) -> None:
    """The second begins while the first has shared the threads out, and ends after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    first_works, second_works = threading.Event(), threading.Event()
    shares: list[int] = []

    def watch_first(pixels: Tensor) -> None:
        first_works.set()
        assert second_works.wait(60)

    def watch_second(pixels: Tensor) -> None:
        shares.append(torch.get_num_threads())
        second_works.set()
        first.join(60)

    def run(watch: Callable[[Tensor], None], name: str) -> None:
        infer(_watched(watch), dataset, device="cpu", batch_size=30, cache_dir=tmp_path / name)

    first = threading.Thread(target=run, args=(watch_first, "first"))
    second = threading.Thread(target=run, args=(watch_second, "second"))
    try:
        first.start()
        assert first_works.wait(60)
        second.start()
        second.join(120)
        assert not first.is_alive()
        assert not second.is_alive()
        assert shares == [2, 2]
        later = threading.Thread(target=lambda: shares.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert shares[-1] == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_an_interrupt_of_batches_side_by_side_keeps_what_was_done(dataset: ImageDataset, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    seen: list[int] = []
    teacher = _watched(lambda pixels: seen.append(len(pixels)))
    with pytest.raises(KeyboardInterrupt):
        infer(teacher, dataset, device="cpu", batch_size=10, cache_dir=tmp_path, progress=interrupt)
    assert sum(seen) < SAMPLES
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cist-ahead")]
    assert infer(teacher, dataset, device="cpu", batch_size=10, cache_dir=tmp_path).resumed == 20


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_damaged_picture_is_named_after_what_comes_before_it(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path, batch_size: int
) -> None:
    for index in range(20):
        target = tmp_path / "images" / f"{index % 10}" / f"{index:02}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(dataset.images)[index, :, :, 0]).save(target)
    (tmp_path / "images" / "6" / "06.png").write_bytes(b"no picture")
    done: list[int] = []
    with pytest.raises(CistError, match=r"06\.png is not a readable image"):
        infer(
            teacher,
            load_dataset(tmp_path / "images"),
            device="cpu",
            batch_size=batch_size,
            cache_dir=tmp_path,
            progress=lambda count, total: done.append(count),
        )
    assert done == list(range(batch_size, 13, batch_size))


def test_too_little_memory_for_one_image_is_said(dataset: ImageDataset, tmp_path: Path) -> None:
    model = Counting()

    def no_memory(size: int) -> None:
        raise torch.OutOfMemoryError("out of memory")

    model.before = no_memory
    with pytest.raises(CistError, match="too little memory for a single image"):
        infer(_teacher(model), dataset, device="cpu", cache_dir=tmp_path)


def test_other_errors_of_a_network_are_not_hidden(dataset: ImageDataset, tmp_path: Path) -> None:
    model = Counting()

    def fail(size: int) -> None:
        raise RuntimeError("a bug")

    model.before = fail
    with pytest.raises(RuntimeError, match="a bug"):
        infer(_teacher(model), dataset, device="cpu", cache_dir=tmp_path)


def test_bfloat16_is_close_and_stored_in_float32(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    exact = _reference(teacher, dataset)
    mixed = infer(teacher, dataset, device="cpu", precision="bfloat16", cache_dir=tmp_path).logit_set.logits
    assert mixed.dtype == np.float32
    error = np.abs(mixed - exact).max()
    assert 1e-6 < error < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, "float16 arithmetic is not available on the CPU"),
        ({"precision": "float8"}, "one of float32, bfloat16, float16, but got 'float8'"),
        ({"batch_size": 0}, "a batch size of at least 1 image, but got 0"),
        ({"limit": 0}, "a limit of at least 1 sample, but got 0"),
    ],
)
def test_impossible_options_are_refused(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(CistError, match=message):
        infer(teacher, dataset, device="cpu", cache_dir=tmp_path, **options)


def test_devices() -> None:
    assert choose_device("cpu").type == "cpu"
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert choose_device().type == best
    with pytest.raises(CistError, match="no device 'gpu'; expected auto, cuda, mps or cpu"):
        choose_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_absent_device_is_refused() -> None:
    with pytest.raises(CistError, match=r"'cuda' is not available on this machine; it has .*cpu"):
        choose_device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_cuda_agrees_with_the_cpu(teacher: Teacher, dataset: ImageDataset, tmp_path: Path, precision: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    logits = infer(teacher, dataset, device="cuda", precision=precision, cache_dir=tmp_path).logit_set.logits
    exact = _reference(teacher, dataset)
    tolerance = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.05}[precision]
    np.testing.assert_allclose(logits, exact, atol=tolerance * np.abs(exact).max())


def test_other_number_of_classes_is_refused(teacher: Teacher, dataset: ImageDataset) -> None:
    seven = replace(dataset, labels=dataset.labels % 7, class_names=tuple("0123456"))
    with pytest.raises(
        CistError, match=r"'toy' cannot be judged on 'noise': The teacher tells 10 classes apart, but .* has 7"
    ):
        fit_data(teacher, seven)
    unnamed = replace(dataset, labels=np.arange(SAMPLES), class_names=None)
    with pytest.raises(CistError, match="has 60; choose"):
        fit_data(teacher, unnamed)
    fit_data(teacher, replace(unnamed, labels=np.zeros(SAMPLES, np.int64)))


def test_images_the_teacher_cannot_read_are_refused(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    cifar = replace(teacher, name="cifar", preprocessing=ARCHITECTURES["resnet20"].preprocessing)
    with pytest.raises(CistError, match=r"'cifar' cannot read 'noise': .*32x32 pixels, but these have 28x28"):
        infer(cifar, dataset, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_grey_digits_reach_a_colour_teacher_when_asked_for(dataset: ImageDataset, tmp_path: Path) -> None:
    usual = ARCHITECTURES["resnet8"].preprocessing
    adapted = replace(usual, resize=True, grey_to_colour=True)
    torch.manual_seed(0)
    teacher = _teacher(create_model("resnet8", num_classes=10), preprocessing=adapted)
    logit_set = infer(teacher, dataset, device="cpu", cache_dir=tmp_path, limit=5).logit_set
    assert logit_set.logits.shape == (5, 10)
    assert logit_set.provenance["preprocessing"].endswith("resized, grey repeated")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), r"shape \(60, 10\), but got \(60, 9\)"),
        (nn.LSTM(28, 10), "but got tuple"),
    ],
)
def test_networks_that_return_something_else_are_refused(
    dataset: ImageDataset, tmp_path: Path, model: nn.Module, message: str
) -> None:
    class Squeezed(nn.Module):
        def forward(self, x: Tensor) -> object:
            return model(x[:, 0])

    with pytest.raises(CistError, match=message):
        infer(_teacher(Squeezed()), dataset, device="cpu", cache_dir=tmp_path)


def test_logits_that_are_not_finite_are_refused_with_the_teachers_name(dataset: ImageDataset, tmp_path: Path) -> None:
    model = Counting()
    model.linear.bias.data[4] = float("nan")
    with pytest.raises(CistError, match=r"logits of the teacher 'toy' cannot be used: .*class 4 is nan"):
        infer(_teacher(model), dataset, device="cpu", cache_dir=tmp_path)
    assert list((tmp_path / "logits").iterdir()) == []


def test_a_broken_weight_is_named(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    teacher.model.get_parameter("fc2.weight").data[0, 0] = float("nan")
    with pytest.raises(CistError, match=r"Its weight 'fc2\.weight' is not finite: the checkpoint is damaged"):
        infer(teacher, dataset, device="cpu", cache_dir=tmp_path)


def test_folder_is_read_at_the_teachers_size_and_in_its_channels(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path
) -> None:
    for index in range(20):
        target = tmp_path / "images" / str(index % 10) / f"{index:02}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(dataset.images)[index, :, :, 0]).save(target)
    folder = load_dataset(tmp_path / "images")
    logits = infer(teacher, folder, device="cpu", cache_dir=tmp_path).logit_set.logits
    order = np.argsort(np.arange(20) % 10, kind="stable")
    np.testing.assert_allclose(logits, _reference(teacher, dataset)[:20][order], atol=1e-4)


def test_a_cache_that_cannot_be_written_to_is_told(teacher: Teacher, dataset: ImageDataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CistError, match=r"cannot be kept in .*/file/logits \(Not a directory\); .*set CIST_CACHE to"):
        infer(teacher, dataset, device="cpu", cache_dir=tmp_path / "file")


def test_a_full_disk_is_told_before_the_run_and_leaves_nothing(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path
) -> None:
    ran: list[tuple[int, int]] = []
    with file_size_limit(2000), pytest.raises(CistError, match=r"cannot be kept in .*; make room there, or set CIST_"):
        infer(teacher, dataset, device="cpu", cache_dir=tmp_path, progress=lambda *counts: ran.append(counts))
    assert ran == []
    assert list((tmp_path / "logits").iterdir()) == []


def test_cache_folder_comes_from_the_environment(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIST_CACHE", str(tmp_path / "mine"))
    infer(teacher, dataset, device="cpu")
    assert list((tmp_path / "mine" / "logits").glob("*.safetensors"))


# A network that ends with a softmax


class WithSoftmax(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.network(pixels).softmax(dim=1)


def test_probabilities_of_a_network_become_logits_of_the_same_soft_labels(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path
) -> None:
    plain = infer(teacher, dataset, device="cpu", cache_dir=tmp_path / "a").logit_set
    assert "given_as" not in plain.provenance
    ending = replace(teacher, model=WithSoftmax(teacher.model).eval(), checkpoint_sha256="another")
    for cached in (False, True):
        result = infer(ending, dataset, device="cpu", cache_dir=tmp_path / "b")
        assert result.cached is cached
        found = result.logit_set
        assert found.provenance["given_as"] == (
            "probabilities; their logarithms were taken, as the network ends with a softmax"
        )
        shares = softmax(plain.logits.astype(np.float64), axis=1)
        np.testing.assert_allclose(softmax(found.logits.astype(np.float64), axis=1), shares, rtol=0, atol=1e-6)


class MaskedHead(nn.Module):
    """Masks one class, as a model does that must not answer with it."""

    def __init__(self, network: nn.Module, mask: float, column: int = 3) -> None:
        super().__init__()
        self.network, self.mask, self.column = network, mask, column

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        masks = torch.zeros(10)
        masks[self.column] = self.mask
        return self.network(pixels) + masks


@pytest.mark.parametrize("mask", [-np.inf, -1e4, -1e9])
@pytest.mark.parametrize("softmax", [False, True])
def test_a_class_that_a_model_masks_takes_no_part(
    teacher: Teacher, dataset: ImageDataset, tmp_path: Path, mask: float, softmax: bool
) -> None:
    others = dataset.take(np.flatnonzero(dataset.labels != 3))
    plain = infer(teacher, others, device="cpu", cache_dir=tmp_path / "a").logit_set
    masked = MaskedHead(teacher.model, mask)
    ending = replace(teacher, model=(WithSoftmax(masked) if softmax else masked).eval(), checkpoint_sha256="another")
    for cached in (False, True):
        result = infer(ending, others, device="cpu", cache_dir=tmp_path / "b")
        assert result.cached is cached
        found = result.logit_set
        assert found.class_names == tuple("012456789")
        np.testing.assert_array_equal(found.kept_classes[found.labels], others.labels)
        assert found.provenance["absent classes"].startswith("1 of 10, number 3; its logit is -")
        expected = log_softmax(np.delete(plain.logits.astype(np.float64), 3, 1), axis=1)
        np.testing.assert_allclose(log_softmax(found.logits.astype(np.float64), axis=1), expected, rtol=0, atol=2e-3)
    if not softmax:
        with pytest.raises(CistError, match="'toy' cannot be used: 6 of 60 samples are labelled with a class that"):
            infer(ending, dataset, device="cpu", cache_dir=tmp_path / "c")
