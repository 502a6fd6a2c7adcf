"""What a config of image classification says beside what every config says."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from cist_core.training.config import (
    ConfigPart,
    Count,
    DataConfig,
    RunConfig,
    Share,
    StudentConfig,
    TeacherConfig,
)
from cist_core.zoo.preprocessing import Preprocessing
from cist_core.zoo.students import check_student, check_student_name, has_published_weights


def _checked_preprocessing(fields: dict[str, Any]) -> dict[str, Any]:
    try:
        return Preprocessing.from_dict(fields).to_dict()
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected mean, std, image_size and other fields of Preprocessing, but {error}") from None


class ImageDataConfig(DataConfig):
    """The images. Validation never shares an image with training or test."""

    name: Annotated[str, Field(min_length=1)]
    """A data set that `cist data` lists, or the path of training images: a folder, .npz, .csv, .parquet, ..."""
    test: str | None = None
    """Path of the test images, for a ``name`` that is a path without a test split of its own."""
    train_samples: Count | None = None
    """Train on this many images only, as many of each class as they divide into; None: on all."""
    validation_samples: Count | None = None
    """Validate on this many images only, likewise; for students so quick that validation takes longer than training."""
    validation_share: Share = 0.1
    """Part of every class set apart where the data bring no validation split (and again for test, likewise)."""
    split_seed: Annotated[int, Field(ge=0)] = 0
    """Decides which images are set apart and which are taken, whatever ``seed`` is."""
    class_map: dict[str, str | int | None] | None = None
    """From the data's classes to the teacher's, by name or number, null for one left out; None: by name, or number."""
    download: bool = False
    """Whether a data set that is not there may be downloaded."""


class ImageTeacherConfig(TeacherConfig):
    """The network that is distilled."""

    name: Annotated[str, Field(min_length=1)]
    """A sample model that `cist models` lists, the path of a checkpoint, or another of `cist infer --help`."""
    architecture: str | None = None
    """Of a checkpoint; None: recognised from the weights."""
    weights: str | None = None
    """Which of the weights in a checkpoint, by their name in it; None: those that are usually meant."""
    preprocessing: Annotated[dict[str, Any], AfterValidator(_checked_preprocessing)] | None = None
    """What it reads images with (``mean``, ``std``, ``image_size``, ...); None: what is usual for its architecture."""
    download: bool = False
    """Whether weights that are known by a name and are not here may be downloaded."""


class ImageStudentConfig(StudentConfig):
    """The network that learns."""

    architecture: Annotated[str, AfterValidator(check_student_name)]
    """One that `cist models` lists, ``torchvision:NAME``, ``timm:NAME``, ``hf:OWNER/NAME``, a Hugging Face folder, or
    ``package.module:function``, code of one's own (not in the app); ``@pretrained`` behind it starts from published
    weights, but for a head of other classes."""
    weights: str | None = None
    """A checkpoint to start from; None: published weights if they are asked for, else fresh ones, drawn under
    ``seed``."""
    image_size: Count | None = None
    """Height and width that it reads, in pixels; None: those it is made for. Networks of the zoo read one size only."""
    download: bool = False
    """Whether published weights or configurations that are not here may be downloaded."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_student_name(self.architecture, self.image_size)
        if self.weights is not None and has_published_weights(self.architecture):
            raise ValueError(f"'{self.architecture}' asks for published weights beside a checkpoint; leave one out")
        return self


class AugmentationConfig(ConfigPart):
    """Random changes of every training image; none by default, and then the teacher's logits are computed once."""

    crop_padding: Annotated[int, Field(ge=0, le=64)] = 0
    """Shift by up to this many pixels; zeros (black before normalisation) move in."""
    flip: bool = False
    """Mirror half of the images."""
    resized_crop: tuple[Share, Annotated[float, Field(gt=0, le=1)]] | None = None
    """Cut out a part of this share of the area, e.g. [0.08, 1.0], and bring it to the network's size (ImageNet)."""
    strong_view: bool = False
    """A second view of every image under RandAugment, for the objectives that take one (MLKD)."""

    @field_validator("resized_crop")
    @classmethod
    def _grows(cls, shares: tuple[float, float] | None) -> tuple[float, float] | None:
        if shares is not None and shares[0] > shares[1]:
            raise ValueError("the smaller share comes first")
        return shares

    @property
    def any(self) -> bool:
        return bool(self.crop_padding or self.flip or self.resized_crop or self.strong_view)


class ImageClassificationConfig(RunConfig):
    """One distillation run of a network that names what is on an image."""

    task: Literal["image-classification"] = "image-classification"
    data: ImageDataConfig
    teacher: ImageTeacherConfig
    student: ImageStudentConfig
    augmentation: AugmentationConfig = AugmentationConfig()

    def check_available(self) -> None:
        check_student(self.student.architecture, self.student.image_size)

    @model_validator(mode="after")
    def _view_used(self) -> Self:
        if (
            self.augmentation.strong_view
            and "strong_student_logits" not in self.objective.create().specification.inputs
        ):
            raise ValueError(
                f"augmentation.strong_view is for objectives with two views; '{self.objective.name}' uses one"
            )
        return self
