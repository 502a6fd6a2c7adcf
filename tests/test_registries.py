"""One list each of formats and kinds: what is registered is known to the command line, the Add form and errors."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from app.forms import add as form
from cist_core import CistError, read_logits
from cist_core.added import AddSpec
from cist_core.cli import build_parser
from cist_core.data import formats as image_formats
from cist_core.data.loading import load_dataset
from cist_core.inference.sources import find_teacher
from cist_core.logits.files import formats
from cist_core.logits.files.arrays import StoredArrays, stored
from cist_core.zoo.kinds import ModelKind, kind, model_kinds, register_model_kind
from cist_core.zoo.kinds.code import NO_CODE
from cist_core.zoo.students import create_student
from cist_core.zoo.teachers import load_checkpoint, load_teacher


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        build_parser().parse_args([command, "--help"])
    return " ".join(capsys.readouterr().out.split())


def test_a_toy_logit_format_is_known_everywhere(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(formats, "FORMATS", [*formats.FORMATS])
    formats.register_logit_format(
        formats.LogitFormat(
            "toy", (".toy",), "arrays", lambda path, limits: StoredArrays({"logits": stored(np.loadtxt(path))})
        )
    )
    np.savetxt(tmp_path / "x.toy", [[1.0, 2.0], [4.0, 3.0]])
    assert read_logits(tmp_path / "x.toy").answers.tolist() == [1, 0]
    assert ".toy" in help_of("analyze", capsys)
    assert ".toy" in help_of("convert", capsys)
    assert "toy" in form.logit_types()
    assert "toy" in form.label_types()
    with pytest.raises(CistError, match=r"logits are read from .*\.toy"):
        read_logits("x.xyz")
    with pytest.raises(ValueError, match="belongs to"):
        formats.register_logit_format(formats.LogitFormat("again", (".toy",), "table", "nowhere:nothing"))


def test_a_toy_image_format_is_known_everywhere(tmp_path, monkeypatch, capsys) -> None:
    from cist_core.data.arrays import NpzArrays

    monkeypatch.setattr(image_formats, "FORMATS", [*image_formats.FORMATS])
    image_formats.register_image_format(
        image_formats.ImageFormat("toy images", NpzArrays, (".toyz",), complete=True, contents="toys")
    )
    with (tmp_path / "x.toyz").open("wb") as file:
        np.savez(file, images=np.zeros((4, 8, 8), np.uint8), labels=[0, 1, 0, 1])
    assert load_dataset(tmp_path / "x.toyz").num_samples == 4
    assert ".toyz" in help_of("infer", capsys)
    assert "toyz" in form.data_types()
    assert "toys" in form.data_help()
    with pytest.raises(CistError, match=r"There is no data set .*\.toyz"):
        load_dataset("nothing")


def test_a_toy_kind_of_teacher_is_known_everywhere(monkeypatch, capsys) -> None:
    monkeypatch.setattr(kind, "KINDS", [*kind.KINDS])

    @register_model_kind
    class Toy(ModelKind):
        order = 25
        written, what, example, scheme, remote = "toy:NAME", "a toy", "toy:duck", "toy", True
        endings = (".toy",)

        def open_teacher(self, reference, options):
            return load_teacher("mnist5k-mlp")

    assert find_teacher("toy:duck").num_classes == 10
    assert "toy:NAME" in help_of("infer", capsys)
    assert "`toy:NAME`" in form.known_prefixes()
    assert "toy" in form.checkpoint_types()
    assert form.may_need_download({"teacher": "toy:duck", "data": "mnist-5k"})
    with pytest.raises(CistError, match=r"There is no teacher 'nobody'; expected .*toy:NAME"):
        find_teacher("nobody")


@pytest.mark.parametrize("each", formats.logit_formats(), ids=lambda each: each.endings[0])
def test_every_logit_format_opens_a_small_file(each, tmp_path: Path) -> None:
    from cist_core.logits.files import read_labels
    from cist_core.registry import imported

    assert callable(imported(each.reader))
    for ending in each.endings:
        file = tmp_path / f"x{ending}"
        if each.holds == "labels":
            file.write_text("0\n1\n")
            assert read_labels(file, count=2, classes=2).tolist() == [0, 1]
            continue
        write_logits(file)
        assert read_logits(file).answers.tolist() == [1, 0]


def write_logits(file: Path) -> None:
    import pandas as pd
    from safetensors.numpy import save_file

    logits = np.array([[1.5, 2.5], [4.5, 3.5]], np.float32)
    frame = pd.DataFrame(logits, columns=["logit_0", "logit_1"])
    writers = {
        ".npy": lambda: np.save(file, logits),
        ".npz": lambda: np.savez(file, logits=logits),
        ".safetensors": lambda: save_file({"logits": logits}, file),
        ".csv": lambda: frame.to_csv(file, index=False),
        ".tsv": lambda: frame.to_csv(file, index=False, sep="\t"),
        ".parquet": lambda: frame.to_parquet(file),
    }
    writers.get(file.suffix, lambda: torch.save({"logits": torch.from_numpy(logits)}, file))()


PIXELS = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)
LABELS = [0, 1, 0, 1]


def write_pictures(folder: Path) -> list[Path]:
    from PIL import Image

    files = [folder / f"class {label}" / f"{number}.png" for number, label in enumerate(LABELS)]
    for file, image in zip(files, PIXELS, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    return files


def write_path_table(folder: Path) -> Path:
    files = write_pictures(folder)
    rows = [f"{file.relative_to(folder)},{label}" for file, label in zip(files, LABELS, strict=True)]
    (folder / "x.csv").write_text("\n".join(["path,label", *rows]))
    return folder / "x.csv"


def write_idx(folder: Path) -> Path:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    grey = np.zeros((4, 28, 28), np.uint8)
    for part in ("train", "t10k"):
        head = struct.pack(">IIII", 0x803, *grey.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + grey.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 4) + bytes(LABELS))
    return folder


def write_parquet(folder: Path) -> Path:
    import pandas as pd

    pictures = [{"bytes": file.read_bytes()} for file in write_pictures(folder / "pictures")]
    pd.DataFrame({"image": pictures, "label": LABELS}).to_parquet(folder / "x.parquet")
    return folder / "x.parquet"


def write_saved(folder: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    columns = {"image": [str(file) for file in write_pictures(folder / "pictures")], "label": LABELS}
    kinds = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    datasets.Dataset.from_dict(columns, features=kinds).save_to_disk(folder / "saved")
    return folder / "saved"


def write_archive(folder: Path) -> Path:
    np.savez(folder / "x.npz", images=PIXELS, labels=LABELS)
    return folder / "x.npz"


def write_folder(folder: Path) -> Path:
    write_pictures(folder / "pictures")
    return folder / "pictures"


WRITERS = {
    "NumPy archive": write_archive,
    "table of paths and labels": write_path_table,
    "Hugging Face data set on disk": write_saved,
    "folder of a torchvision set": write_idx,
    "Parquet table of images": write_parquet,
    "image folder": write_folder,
}


@pytest.mark.parametrize(
    "each", [each for each in image_formats.image_formats() if each.scheme is None], ids=lambda each: each.name
)
def test_every_image_format_opens_small_data(each, tmp_path: Path) -> None:
    there = WRITERS[each.name](tmp_path)
    assert each.open(there) is not None
    assert sorted(load_dataset(there).labels.tolist()) == sorted(LABELS)


def test_every_kind_says_what_it_is() -> None:
    assert len({each.written for each in model_kinds()}) == len(model_kinds())
    for each in model_kinds():
        if each.example is not None and not each.is_path:
            assert each.is_for(each.example)


# ---- students and code of one's own ----------------------------------------------------------------------------------

CODE = """
from torch import nn
from cist_core.zoo.preprocessing import Preprocessing

def bare(num_classes=10):
    return nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.Flatten(), nn.LazyLinear(num_classes))

def build(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes)), Preprocessing((0.1,), (0.3,), 28)

def wrong(num_classes=10):
    return "no network"
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> str:
    monkeypatch.delenv(NO_CODE, raising=False)
    (tmp_path / "own_nets_of_a_test.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_nets_of_a_test"
    sys.modules.pop("own_nets_of_a_test", None)


@pytest.mark.parametrize("name", ["resnet8", "torchvision:resnet18", "timm:test_resnet"])
def test_a_student_has_as_many_classes_and_follows_its_seed_and_is_read_back(name: str, tmp_path: Path) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    first, again, other = (create_student(name, 7, seed=seed, image_shape=(32, 32, 3)) for seed in (1, 1, 2))
    states = [student.network.state_dict() for student in (first, again, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    size = first.preprocessing.image_size
    assert first.network(torch.randn(2, 3, size, size)).shape == (2, 7)
    torch.save(states[0], tmp_path / "student.pt")
    assert load_checkpoint(tmp_path / "student.pt", name).num_classes == 7
    assert (first.remark is None) == (size == 32)


def test_published_weights_but_for_the_head(tmp_path, monkeypatch) -> None:
    from torchvision.models import ResNet18_Weights, resnet18

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[-1]
    file.parent.mkdir()
    published = resnet18().state_dict()
    torch.save(published, file)
    student = create_student("torchvision:resnet18@pretrained", 7, seed=0)
    state = student.network.state_dict()
    assert student.name == "torchvision:resnet18"
    assert torch.equal(state["conv1.weight"], published["conv1.weight"])
    assert state["fc.weight"].shape == (7, 512)
    assert "fresh head (fc.weight, fc.bias)" in str(student.remark)


def test_what_no_student_may_be() -> None:
    for name, match in (
        ("resnet9000", "There is no architecture 'resnet9000'; did you mean"),
        ("torchvision:resnet9000", "torchvision has no classifier"),
        ("mnist5k-mlp", "can be a teacher, not a student"),
    ):
        with pytest.raises(CistError, match=match):
            create_student(name, 10)
    with pytest.raises(CistError, match="at least 2"):
        create_student("resnet8", 1)


def test_code_of_ones_own_is_a_student_and_a_teacher(own: str, tmp_path: Path) -> None:
    student = create_student(f"{own}:build", 5, seed=0)
    assert student.network(torch.zeros(2, 1, 28, 28)).shape == (2, 5)
    torch.save(student.network.state_dict(), tmp_path / "own.pt")
    assert load_checkpoint(tmp_path / "own.pt", f"{own}:build").num_classes == 5
    assert find_teacher(f"{own}:build").num_classes == 10
    assert find_teacher(f"{own}:build@4").num_classes == 4
    assert isinstance(find_teacher(f"{own}:build").model, nn.Module)
    lazy = create_student(f"{own}:bare", 5)
    torch.save(lazy.network.state_dict(), tmp_path / "lazy.pt")
    assert "its preprocessing is assumed" in str(lazy.remark)
    assert load_checkpoint(tmp_path / "lazy.pt", f"{own}:bare").num_classes == 5
    with pytest.raises(CistError, match=r"return a torch\.nn\.Module"):
        find_teacher(f"{own}:wrong")
    with pytest.raises(CistError, match="cannot be imported"):
        find_teacher("no_such_module_here:build")


def test_the_app_refuses_code(own: str, monkeypatch) -> None:
    from app.forms.distill import make_configs
    from cist_core.training import preset

    said = "would run code of its own"
    for model in ({"teacher": f"{own}:build"}, {"teacher": f"a.pt + {own}:build"}, {"architecture": f"{own}:build"}):
        with pytest.raises(CistError, match=said):
            AddSpec.of(title="x", model={"teacher": "mnist5k-mlp", "data": "mnist-5k", **model})
    content = preset("demo").model_dump(mode="json")
    for part, field in (("teacher", "name"), ("teacher", "architecture"), ("student", "architecture")):
        with pytest.raises(CistError, match=said):
            make_configs({**content, part: {**content[part], field: f"{own}:build"}}, [0])
    monkeypatch.setenv(NO_CODE, "1")  # as the app sets it for itself and for the workers that it starts
    for refused in (lambda: find_teacher(f"{own}:build"), lambda: create_student(f"{own}:build", 5)):
        with pytest.raises(CistError, match=said):
            refused()
    assert own not in sys.modules
