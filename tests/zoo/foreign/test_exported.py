import contextlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cist_core.errors import CistError
from cist_core.inference.sources import find_teacher
from cist_core.zoo.folding import fold_batch_norm


class Toy(nn.Module):
    """Convolution, batch norm, a buffer, a constant, views and sizes that depend on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 5)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.norm(self.conv(x)))
        left, right = x.view(x.shape[0], 2, 2, -1).mean(-1).chunk(2, dim=1)
        return self.head(torch.cat([right, left], 2).flatten(1) * self.scale) + torch.tensor([0.0, 1, 2, 3, 4])


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Toy().eval()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, network: nn.Module) -> dict[str, Path]:
    folder, images = tmp_path_factory.mktemp("exported"), torch.randn(2, 3, 9, 9)
    shapes = {"any": ({0: torch.export.Dim("batch")},), "fixed": None}
    for name, dynamic in shapes.items():
        program = torch.export.export(network, (images,), dynamic_shapes=dynamic)
        torch.export.save(program, folder / f"{name}.pt2")
    torch.export.save(program.run_decompositions(), folder / "core.pt2")
    return {path.stem: path for path in folder.iterdir()}


def _rewrite(path: Path, target: Path, change: Callable[[str, bytes], bytes | None], **extra: bytes) -> Path:
    """A copy of an archive in which some entries are others."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].split("/")[0]
        for name in old.namelist():
            content = change(name.removeprefix(f"{root}/"), old.read(name))
            if content is not None:
                new.writestr(name, content)
        for name, content in extra.items():
            new.writestr(f"{root}/{name}", content)
    return target


def _edit(path: Path, target: Path, entry: str, edit: Callable[[Any], object]) -> Path:
    """A copy in which one JSON entry is edited in place."""

    def change(name: str, content: bytes) -> bytes:
        if not name.endswith(entry):
            return content
        record = json.loads(content)
        edit(record)
        return json.dumps(record).encode()

    return _rewrite(path, target, change)


@pytest.mark.parametrize("kind", ["any", "fixed", "core"])
def test_gives_what_the_network_gives(programs: dict[str, Path], network: nn.Module, kind: str) -> None:
    teacher = find_teacher(str(programs[kind]))
    assert (teacher.num_classes, teacher.preprocessing.image_size, teacher.preprocessing.channels) == (5, 9, 3)
    assert teacher.facts["preprocessing"].startswith("assumed")
    images = torch.randn(5, 3, 9, 9).to(memory_format=torch.channels_last)
    model = fold_batch_norm(teacher.model).to(memory_format=torch.channels_last)
    assert model is teacher.model
    with torch.inference_mode():
        torch.testing.assert_close(model(images), network(images), atol=1e-6, rtol=1e-5)


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def test_pickles_in_the_archive_are_never_read(programs: dict[str, Path], tmp_path: Path) -> None:
    marker, stream = tmp_path / "ran", io.BytesIO()
    torch.save(Payload(marker), stream)
    evil = stream.getvalue()

    # Sample inputs, which torch.export.load unpickles, are not needed and not looked at.
    def poison(name: str, content: bytes) -> bytes:
        return evil if name.startswith("data/sample_inputs/") else content

    assert find_teacher(str(_rewrite(programs["any"], tmp_path / "samples.pt2", poison))).num_classes == 5

    def pickled(record: Any) -> None:
        next(iter(record["config"].values()))["use_pickle"] = True

    for entry, payload in {"weights_config.json": "weight_0", "constants_config.json": "tensor_0"}.items():
        path = _edit(programs["any"], tmp_path / "pickled.pt2", entry, pickled)
        path = _rewrite(
            path, tmp_path / "evil.pt2", lambda name, old, payload=payload: evil if name.endswith(payload) else old
        )
        with pytest.raises(CistError, match="is no plain tensor"):
            find_teacher(str(path))
    assert not marker.exists()
    torch.load(io.BytesIO(evil), weights_only=False)
    assert marker.exists()  # the payload would have run
    assert pickle.dumps(Payload(marker))


def test_symbolic_expressions_are_not_evaluated(programs: dict[str, Path], tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"

    def replace(record: Any) -> None:
        text = json.dumps(record)
        assert "Symbol('s" in text
        record.clear()
        record.update(json.loads(text.replace("Symbol('s", f"{code} or Symbol('s")))

    path = _edit(programs["any"], tmp_path / "code.pt2", "models/model.json", replace)
    assert find_teacher(str(path)).num_classes == 5
    assert not marker.exists()
    with contextlib.suppress(Exception):
        torch.export.load(path)
    assert marker.exists()  # the code would have run


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.empty.memory_format",
        "torch.ops.prim.device.default",
        "torch.ops.evil.run.default",
        "os.system",
        "builtins.eval",
        "torch.ops.higher_order.cond",
        "torch.ops.aten.relu.__init__",
    ],
)
def test_other_operators_are_refused(programs: dict[str, Path], tmp_path: Path, target: str) -> None:
    def change(record: Any) -> None:
        record["graph_module"]["graph"]["nodes"][1]["target"] = target

    path = _edit(programs["any"], tmp_path / "other.pt2", "models/model.json", change)
    with pytest.raises(CistError, match=f"needs the operator '{target}', which"):
        find_teacher(str(path))


def test_custom_objects_and_compiled_code_are_refused(programs: dict[str, Path], tmp_path: Path) -> None:
    def custom(record: Any) -> None:
        record["graph_module"]["signature"]["input_specs"].append({"custom_obj": {"arg": {"name": "x"}}})

    with pytest.raises(CistError, match="an input of the kind 'custom_obj', which is not loaded"):
        find_teacher(str(_edit(programs["any"], tmp_path / "custom.pt2", "models/model.json", custom)))
    compiled = {"data/aotinductor/model/x.so": b"\x7fELF"}
    with pytest.raises(CistError, match="compiled code, which is not run"):
        find_teacher(str(_rewrite(programs["any"], tmp_path / "compiled.pt2", lambda _, content: content, **compiled)))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("sizes", [{"as_int": 1 << 40}], "says it has 1,099,511,627,776 values, but holds"),
        ("strides", [{"as_int": 1 << 40}], "reaches beyond its"),
        ("storage_offset", {"as_int": 999}, "reaches beyond its"),
        ("sizes", [{"as_int": -4}], "no dense tensor of known type and size"),
        ("dtype", 99, "no dense tensor of known type and size"),
    ],
)
def test_absurd_tensors_are_refused(
    programs: dict[str, Path], tmp_path: Path, field: str, value: object, message: str
) -> None:
    def change(record: Any) -> None:
        record["config"]["conv.bias"]["tensor_meta"][field] = value

    path = _edit(programs["any"], tmp_path / "absurd.pt2", "weights_config.json", change)
    with pytest.raises(CistError, match=message):
        find_teacher(str(path))


def test_entries_outside_their_folder_are_refused(programs: dict[str, Path], tmp_path: Path) -> None:
    def change(record: Any) -> None:
        record["config"]["conv.bias"]["path_name"] = "../sample_inputs/model.pt"

    path = _edit(programs["any"], tmp_path / "outside.pt2", "weights_config.json", change)
    with pytest.raises(CistError, match="outside its folder"):
        find_teacher(str(path))


def test_bombs_and_damage_are_refused(programs: dict[str, Path], tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/models/model.json", b" " * 10_000_000)
    with pytest.raises(CistError, match="is compressed, which"):
        find_teacher(str(bomb))
    whole = programs["any"].read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "bad.pt2").write_bytes(content)
        with pytest.raises(CistError, match=r"bad\.pt2 is not a readable \.pt2 file"):
            find_teacher(str(tmp_path / "bad.pt2"))
    for name in ("graph", "signature"):
        path = _edit(
            programs["any"], tmp_path / "no.pt2", "models/model.json", lambda r, n=name: r["graph_module"].pop(n)
        )
        with pytest.raises(CistError, match="is damaged or of an unknown version"):
            find_teacher(str(path))


class Counting(nn.Module):
    """Adds to a buffer, itself or a view of it, before it is used."""

    def __init__(self, *, view: bool) -> None:
        super().__init__()
        self.head, self.view = nn.Linear(12, 5), view
        self.register_buffer("seen", torch.zeros(2, 5))

    def forward(self, x: Tensor) -> Tensor:
        (self.seen.view(-1)[:5] if self.view else self.seen).add_(1)
        return self.head(x.flatten(1).mul(2).add_(1)) + self.seen[0]


class Averaging(nn.Module):
    """Keeps running statistics, without a count of the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 5)
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.batch_norm(x, self.mean, self.var, training=self.training).flatten(1))


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("network", [Counting(view=False), Counting(view=True), Averaging().train()])
def test_networks_that_change_themselves_are_refused(tmp_path: Path, network: nn.Module, decomposed: bool) -> None:
    program = torch.export.export(network, (torch.randn(3, 3, 2, 2),))
    torch.export.save(program.run_decompositions() if decomposed else program, tmp_path / "changing.pt2")
    with pytest.raises(CistError, match=r"changing\.pt2 changes its own tensors .* in evaluation mode"):
        find_teacher(str(tmp_path / "changing.pt2"))


def test_evaluation_mode_is_taken(tmp_path: Path) -> None:
    network, images = Averaging().eval(), torch.randn(3, 3, 2, 2)
    torch.export.save(torch.export.export(network, (images,)), tmp_path / "fixed.pt2")
    torch.testing.assert_close(find_teacher(str(tmp_path / "fixed.pt2")).model(images), network(images))


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    program = torch.export.export(nn.Flatten(0), (torch.zeros(2, 3, 4, 4),))
    torch.export.save(program, tmp_path / "flat.pt2")
    with pytest.raises(CistError, match=r"to map \(N, channels, S, S\) to \(N, classes\), but it maps \(2, 3, 4, 4\)"):
        find_teacher(str(tmp_path / "flat.pt2"))
