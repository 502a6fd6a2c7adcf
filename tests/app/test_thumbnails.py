"""Pictures of samples: the right image or none, and a sentence where there is none."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from app import catalogue
from app.thumbnails import thumbnails, why_no_images
from cist_core.added import AddSpec
from cist_core.data.class_maps import map_labels
from cist_core.data.dataset import evenly_spaced
from cist_core.data.loading import load_dataset
from cist_core.data.sampling import samples_text, stratified_sample
from cist_core.logits.logit_set import LogitSet


def view_on(
    data: str,
    labels: np.ndarray | None,
    *,
    split: str = "test",
    samples: int | None = None,
    teacher: str = "somebody",
    provenance: dict[str, str] | None = None,
):
    """A view of which only the source's teacher, data, split, labels and provenance matter here."""
    logits = np.random.default_rng(0).normal(size=(samples or len(labels), 10)).astype(np.float32)
    logit_set = LogitSet.create(logits, labels, provenance=provenance or {})
    return SimpleNamespace(source=SimpleNamespace(teacher=teacher, data=data, split=split, logit_set=logit_set))


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch):
    """Let a teacher be one that was added, with a model on data at a path."""

    def add(teacher: str, data: str) -> None:
        spec = AddSpec.of(title=teacher, model={"teacher": "mnist5k-cnn", "data": data})
        known = {teacher: SimpleNamespace(spec=spec, uploads=Path(data).parent)}
        monkeypatch.setattr(catalogue, "find_added", known.get)

    return add


def pixels_of(uri: str) -> np.ndarray:
    kind, _, content = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_each_picture_is_its_sample_enlarged_by_a_whole_factor() -> None:
    dataset = load_dataset("mnist-5k", "test")
    view = view_on("mnist-5k", dataset.labels)
    pictures = thumbnails(view, [5, 0, 999])
    assert pictures is not None
    for picture, index in zip(pictures, [5, 0, 999], strict=True):
        expected = dataset.images[index, :, :, 0].repeat(3, axis=0).repeat(3, axis=1)
        np.testing.assert_array_equal(pixels_of(picture), expected)
    assert why_no_images(view) is None


def test_no_samples_have_no_pictures() -> None:
    view = view_on("mnist-5k", load_dataset("mnist-5k", "test").labels)
    assert thumbnails(view, []) == []


def test_a_limited_set_gets_the_images_that_were_inferred() -> None:
    dataset = load_dataset("mnist-5k", "test")
    chosen = evenly_spaced(dataset.num_samples, 90)
    (picture,) = thumbnails(view_on("mnist-5k", dataset.labels[chosen]), [40], size=28) or []
    np.testing.assert_array_equal(pixels_of(picture), dataset.images[chosen[40], :, :, 0])


def test_other_labels_mean_other_images() -> None:
    labels = load_dataset("mnist-5k", "test").labels.copy()
    labels[17] = (labels[17] + 1) % 10
    view = view_on("mnist-5k", labels)
    assert thumbnails(view, [0]) is None
    assert "labels" in str(why_no_images(view))


def test_logits_without_labels_have_no_pictures() -> None:
    assert thumbnails(view_on("mnist-5k", None, samples=1_000), [0]) is None


def test_data_that_are_absent_are_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("CIST_DATA", str(tmp_path))
    view = view_on("cifar10", np.arange(10))
    assert thumbnails(view, [0]) is None
    assert "cifar10" in str(why_no_images(view))
    assert not list(tmp_path.iterdir())


def test_large_colour_images_shrink_and_keep_their_shape(tmp_path, added) -> None:
    images = np.zeros((3, 100, 300, 3), np.uint8)
    images[1, :, :, 0] = 200
    path = tmp_path / "photos.npz"
    np.savez(path, images=images, labels=np.array([0, 1, 2]))
    added("mine-1", str(path))
    (picture,) = thumbnails(view_on("photos", np.array([0, 1, 2]), teacher="mine-1"), [1], size=60) or []
    pixels = pixels_of(picture)
    assert pixels.shape == (20, 60, 3)
    np.testing.assert_array_equal(pixels[10, 30], [200, 0, 0])


def test_a_drawn_sample_gets_the_images_that_were_inferred() -> None:
    dataset = load_dataset("mnist-5k", "test")
    chosen = stratified_sample(dataset.labels, 90, 3)
    provenance = {"samples": samples_text(90, dataset.num_samples, 3)}
    view = view_on("mnist-5k", dataset.labels[chosen], provenance=provenance)
    (picture,) = thumbnails(view, [40], size=28) or []
    np.testing.assert_array_equal(pixels_of(picture), dataset.images[chosen[40], :, :, 0])


def test_mapped_classes_keep_their_images(tmp_path, added) -> None:
    images = np.arange(6, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    path = tmp_path / "few.npz"
    np.savez(path, images=images, labels=np.array([0, 1, 2, 0, 1, 2]))
    mapped = map_labels(load_dataset(path), {0: 9, 1: None, 2: 4}, 10)
    added("mine-1", str(path))
    provenance = {"samples": "4 of 4", "class_map": "[9, null, 4]"}
    pictures = thumbnails(view_on("few", mapped.labels, teacher="mine-1", provenance=provenance), [0, 1, 2, 3], size=8)
    assert [pixels_of(picture)[0, 0] for picture in pictures or []] == [0, 2, 3, 5]


def test_a_path_that_a_file_of_logits_names_is_not_opened(tmp_path) -> None:
    path = tmp_path / "private.npz"
    np.savez(path, images=np.zeros((3, 8, 8), np.uint8), labels=np.arange(3))
    view = view_on(str(path), np.arange(3), provenance={"images": str(path), "samples": "3 of 3"})
    assert thumbnails(view, [0]) is None
    assert "came without images" in str(why_no_images(view))


@pytest.mark.parametrize("provenance", [{"samples": "many"}, {"samples": "5 of 7"}, {"class_map": "{"}])
def test_a_provenance_that_makes_no_sense_means_no_pictures(provenance: dict[str, str]) -> None:
    labels = load_dataset("mnist-5k", "test").labels
    assert thumbnails(view_on("mnist-5k", labels, provenance=provenance), [0]) is None
