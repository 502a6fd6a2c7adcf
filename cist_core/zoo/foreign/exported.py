"""Networks that ``torch.export.save`` wrote (``.pt2``), run without `torch.export.load`.

`torch.export.load` trusts its file: it unpickles weights, constants, sample inputs and custom objects
(``torch.load(weights_only=False)``, ``pickle.loads``), evaluates the strings of symbolic expressions
(``sympy.sympify``), and resolves any operator that a node names. None of that is needed to run a network: the archive
is a zip of JSON (the graph) and raw numbers (the weights). This module reads these two and nothing else, and runs the
graph node by node with those operators of ATen that compute from tensors and numbers (`OPERATORS`). A file that needs
more is refused by the name of what it needs.
"""

from __future__ import annotations

import math
import operator
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cist_core.documents import parse_json
from cist_core.errors import CistError, first_line
from cist_core.zoo.checkpoints import file_sha256
from cist_core.zoo.foreign.operators import OPERATORS
from cist_core.zoo.foreign.wrapping import ASSUMED, ForeignModel, assumed_preprocessing, logits_of
from cist_core.zoo.teacher import Teacher

# The numbers that torch.export's schema gives to types, memory formats and layouts.
_TYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
_MEMORY_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
_SYMBOLIC: dict[str, Callable[..., Any]] = {
    **{f"_operator.{name}": getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "mod", "neg")},
    **{f"_operator.{name}": getattr(operator, name) for name in ("eq", "ne", "le", "ge", "lt", "gt", "truediv")},
    "math.trunc": math.trunc,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_int": int,
    "torch.sym_float": float,
}
# Checks that a size is what the export saw; they compute nothing.
_ASSERTIONS = (
    "torch.ops.aten._assert_scalar.default",
    "torch.ops.aten._assert_tensor_metadata.default",
    "torch.ops.aten.sym_constrain_range_for_size.default",
    "torch.ops.aten.sym_constrain_range.default",
    "torch.ops.aten._assert_async.msg",
)
_LARGEST_JSON = 1 << 28


def load_exported(path: str | os.PathLike[str]) -> Teacher:
    """A teacher from a ``.pt2`` file: image size, channels and classes are the graph's, the normalisation is assumed.

    Raises:
        CistError: if the file is damaged, is no image classifier, needs anything but plain tensors and known
            operators, or changes its own tensors, as networks in training do.
    """
    source = Path(path)
    archive = _Archive.open(source)
    try:
        program = _read_program(archive, source)
    except CistError:
        raise
    except Exception as error:  # a graph of other shape than expected fails in any way
        raise CistError(f"The graph in {source} is damaged or of an unknown version ({first_line(error)}).") from error
    channels, height, width = program.image
    if height != width:
        raise CistError(f"Expected a network that reads square images, but {source} reads {height}x{width}.")
    return Teacher(
        name=source.name,
        model=ExportedModel(program).eval(),
        architecture=f"exported program of {len(program.nodes)} nodes",
        num_classes=program.num_classes,
        class_names=None,
        preprocessing=assumed_preprocessing(channels, height),
        checkpoint_sha256=file_sha256(source),
        facts={
            "origin": "torch.export, read without running code",
            "parameters": f"{sum(tensor.numel() for tensor in program.tensors.values()):,}",
            "preprocessing": ASSUMED,
        },
    )


@dataclass(frozen=True)
class _Node:
    """One step: an operator, what it is called with, and the names of what it returns."""

    operator: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    results: tuple[str | None, ...]
    several: bool


@dataclass(frozen=True)
class _Name:
    """The place of a value that an earlier node computes."""

    name: str


# Where a graph makes a constant, whatever device it was exported on.
_DEVICE = _Name("<device>")


@dataclass(frozen=True)
class _Program:
    """A graph whose operators have been looked up; ``last_use`` says after which node a value may go."""

    tensors: Mapping[str, Tensor]
    nodes: tuple[_Node, ...]
    last_use: Mapping[str, int]
    input: str
    output: str
    batch: int | None
    image: tuple[int, int, int]
    num_classes: int


class ExportedModel(ForeignModel):
    """``(N, channels, S, S)`` to ``(N, C)`` logits, by running the graph; a batch size that is fixed is padded to."""

    def __init__(self, program: _Program) -> None:
        super().__init__()
        self._program = program
        self._device = torch.device("cpu")
        # Not parameters: a graph holds views that other memory formats, which inference asks for, would break.
        self._tensors = dict(program.tensors)

    def forward(self, images: Tensor) -> Tensor:
        images = images.contiguous()
        if images.device != self._device:
            self._tensors = {name: tensor.to(images.device) for name, tensor in self._tensors.items()}
            self._device = images.device
        size = self._program.batch
        if size is None:
            return self._run(images)
        parts = []
        for part in torch.split(images, size):
            padded = torch.cat([part, part[-1:].expand(size - len(part), -1, -1, -1)]) if len(part) < size else part
            parts.append(self._run(padded)[: len(part)])
        return torch.cat(parts)

    def _run(self, images: Tensor) -> Tensor:
        program = self._program
        values: dict[str, Any] = {**self._tensors, program.input: images, _DEVICE.name: images.device}
        for place, node in enumerate(program.nodes):
            try:
                arguments = [_resolve(value, values) for value in node.arguments]
                result = node.operator(*arguments, **{k: _resolve(v, values) for k, v in node.options.items()})
            except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError) as error:
                if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error).lower():
                    raise
                raise CistError(f"Step {place} of the exported network fails ({first_line(error)}).") from error
            returned = zip(node.results, result if node.several else (result,), strict=False)
            values |= {name: value for name, value in returned if name is not None}
            for name in _names_in([*node.arguments, *node.options.values()]):
                if program.last_use.get(name) == place:
                    values.pop(name, None)
        return logits_of(values[program.output])


def _names_in(value: Any) -> list[str]:
    if isinstance(value, _Name):
        return [value.name]
    return [name for item in value for name in _names_in(item)] if isinstance(value, list) else []


def _resolve(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, _Name):
        return values[value.name]
    return [_resolve(item, values) for item in value] if isinstance(value, list) else value


@dataclass(frozen=True)
class _Archive:
    """The zip, of which nothing is unpacked: entries are read where they lie, and are as large as they say."""

    path: Path
    root: str

    @classmethod
    def open(cls, path: Path) -> _Archive:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise CistError(f"{path} is not a readable .pt2 file ({first_line(error)}).") from error
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise CistError(f"{path} is compressed, which torch.export.save never does; export the network again.")
        names = [entry.filename for entry in entries]
        models = [name for name in names if name.endswith(".json") and "models/" in name]
        if len(models) != 1 or any("aotinductor/" in name for name in names):
            raise CistError(
                f"Expected {path} to hold one exported program, as torch.export.save of torch 2.8 or later writes it, "
                f"but it holds {len(models)}"
                + (" and compiled code, which is not run." if any("aotinductor/" in name for name in names) else ".")
            )
        return cls(path, models[0].split("models/")[0])

    def read(self, name: str) -> bytes:
        """Raises a CistError for an entry that is missing or damaged."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                return archive.read(f"{self.root}{name}")
        except Exception as error:  # damage makes zipfile raise zlib.error, EOFError, RuntimeError, ...
            raise CistError(f"{self.path} lacks {name}, or it is damaged ({first_line(error)}).") from error

    def names(self, folder: str) -> list[str]:
        with zipfile.ZipFile(self.path) as archive:
            return [name.removeprefix(self.root) for name in archive.namelist() if name.startswith(self.root + folder)]

    def json(self, name: str) -> Any:
        content = self.read(name)
        if len(content) > _LARGEST_JSON:
            raise CistError(f"{name} in {self.path} has {len(content):,} bytes, more than any graph.")
        try:
            return parse_json(content)
        except ValueError as error:
            raise CistError(f"{name} in {self.path} is damaged ({first_line(error)}).") from error


def _read_program(archive: _Archive, source: Path) -> _Program:
    (model,) = (name for name in archive.names("models/") if name.endswith(".json"))
    stem = Path(model).stem
    module = archive.json(model)["graph_module"]
    graph, signature = module["graph"], module["signature"]
    payloads = {
        **_payload(archive, f"data/weights/{stem}_weights_config.json", "data/weights/"),
        **_payload(archive, f"data/constants/{stem}_constants_config.json", "data/constants/"),
    }
    tensors, images = {}, []
    for spec in signature["input_specs"]:
        kind, field = _only(spec)
        if kind == "user_input":
            images.append(field["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            known_as = field[{"parameter": "parameter_name", "buffer": "buffer_name"}.get(kind, "tensor_constant_name")]
            if known_as not in payloads:
                raise CistError(f"{source} lacks the numbers of '{known_as}'; export the network again.")
            tensors[field["arg"]["name"]] = _read_tensor(archive, *payloads[known_as])
        else:
            raise CistError(f"{source} needs an input of the kind '{kind}', which is not loaded: it can run code.")
    results = [
        field["arg"]["as_tensor"]["name"]
        for kind, field in map(_only, signature["output_specs"])
        if kind == "user_output"
    ]
    if len(images) != 1 or not results:
        raise CistError(
            f"Expected {source} to read one batch of images and return logits, but it reads {len(images)} tensors and "
            f"returns {len(results)}."
        )
    if any(kind == "buffer_mutation" for kind, _ in map(_only, signature["output_specs"])):
        raise _changes_itself(source)
    nodes = tuple(_read_node(node, source) for node in graph["nodes"] if node["target"] not in _ASSERTIONS)
    _refuse_changes(nodes, tensors, source)
    last_use = {
        name: place
        for place, node in enumerate(nodes)
        for name in _names_in([*node.arguments, *node.options.values()])
        if name not in tensors and name != results[0]
    }
    shapes = graph["tensor_values"]
    image, logits = (_sizes(shapes[name]["sizes"]) for name in (images[0], results[0]))
    if len(image) != 4 or None in image[1:] or len(logits) != 2 or logits[1] is None or logits[1] < 2:
        raise CistError(
            f"Expected {source} to map (N, channels, S, S) to (N, classes), but it maps {image} to {logits} (None: any "
            "size)."
        )
    pixels = (image[1], image[2], image[3])
    return _Program(tensors, nodes, last_use, images[0], results[0], image[0], pixels, logits[1])


def _refuse_changes(nodes: tuple[_Node, ...], tensors: Mapping[str, Tensor], source: Path) -> None:
    """Refuses steps that write into a stored tensor or a view of one: each batch would change the answers to the next.

    Raises:
        CistError: for such a step.
    """
    stored = set(tensors)
    for node in nodes:
        if not isinstance(node.operator, torch._ops.OpOverload):
            continue  # computes sizes
        declared = node.operator._schema.arguments
        given = {argument.name: value for argument, value in zip(declared, node.arguments, strict=False)}
        given |= node.options
        aliased = [
            argument.alias_info
            for argument in declared
            if argument.alias_info is not None and stored.intersection(_names_in(given.get(argument.name)))
        ]
        # Running statistics are written to without the operator's declaration saying so.
        training = given.get("training", given.get("use_input_stats")) is True
        if any(alias.is_write for alias in aliased) or (training and given.get("running_mean") is not None):
            raise _changes_itself(source)
        if aliased:
            stored.update(name for name in node.results if name is not None)


def _changes_itself(source: Path) -> CistError:
    return CistError(
        f"{source} changes its own tensors as it runs, so that its answers would depend on the batches before; export "
        "the model in evaluation mode (model.eval())."
    )


def _only(union: Mapping[str, Any]) -> tuple[str, Any]:
    """The one field of a union that is set."""
    ((kind, value),) = ((kind, value) for kind, value in union.items() if value is not None)
    return kind, value


def _sizes(sizes: list[Mapping[str, Any]]) -> tuple[Any, ...]:
    """Sizes, None for those that a run decides. What an expression says is not looked at."""
    return tuple(int(value) if kind == "as_int" else None for kind, value in map(_only, sizes))


def _payload(archive: _Archive, config: str, folder: str) -> dict[str, tuple[str, Mapping[str, Any]]]:
    entries = archive.json(config)["config"]
    return {str(name): (f"{folder}{entry['path_name']}", entry) for name, entry in entries.items()}


def _read_tensor(archive: _Archive, name: str, entry: Mapping[str, Any]) -> Tensor:
    meta = entry["tensor_meta"]
    if entry["use_pickle"] or meta is None or Path(name).name != name.rsplit("/", 1)[-1] or ".." in name:
        raise CistError(
            f"{name} in {archive.path} is no plain tensor (a pickle, or outside its folder); it is not loaded."
        )
    dtype = _TYPES.get(meta["dtype"])
    sizes, strides = _sizes(meta["sizes"]), _sizes(meta["strides"])
    ((_, offset),) = meta["storage_offset"].items()
    if dtype is None or None in sizes or None in strides or min((*sizes, *strides, offset), default=0) < 0:
        raise CistError(f"{name} in {archive.path} is no dense tensor of known type and size; it is not loaded.")
    content = archive.read(name)
    flat = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
    if math.prod(sizes) > len(flat):
        raise CistError(f"{name} in {archive.path} says it has {math.prod(sizes):,} values, but holds {len(flat):,}.")
    reach = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1
    if math.prod(sizes) and reach > len(flat):
        raise CistError(f"{name} in {archive.path} reaches beyond its {len(flat):,} values.")
    return flat.as_strided(sizes, strides, offset)


def _read_node(node: Mapping[str, Any], source: Path) -> _Node:
    target = str(node["target"])
    function = _SYMBOLIC.get(target) or _find_operator(target, source)
    arguments, options = [], {}
    for given in node["inputs"]:
        value = _read_argument(given["arg"], source)
        if target in _SYMBOLIC or given.get("kind") == 1:
            arguments.append(value)
        else:
            options[str(given["name"])] = value
    results, several = _read_results(node["outputs"])
    return _Node(function, tuple(arguments), options, results, several)


def _find_operator(target: str, source: Path) -> Callable[..., Any]:
    name = target.removeprefix("torch.ops.aten.")
    base, _, overload = name.partition(".")
    if name == target or (base.rstrip("_") not in OPERATORS and base not in OPERATORS):
        raise CistError(
            f"{source} needs the operator '{target}', which is not among those that are run from files; export the "
            "network to ONNX, or give its checkpoint with --arch."
        )
    found: Callable[..., Any] | None = getattr(getattr(torch.ops.aten, base, None), overload, None)
    if not isinstance(found, torch._ops.OpOverload):
        raise CistError(
            f"{source} needs the operator '{target}', which this torch ({torch.__version__}) does not have."
        )
    return found


def _read_argument(argument: Mapping[str, Any], source: Path) -> Any:
    kind, value = _only(argument)
    if kind in ("as_tensor", "as_optional_tensor"):
        inner = value if "name" in value else _only(value)[1]
        return _Name(str(inner["name"])) if isinstance(inner, Mapping) else None
    if kind in ("as_tensors", "as_sym_ints", "as_sym_floats", "as_optional_tensors"):
        single = {"as_tensors": "as_tensor", "as_optional_tensors": "as_optional_tensor"}.get(kind, "as_sym_int")
        return [_read_argument({single: item}, source) for item in value]
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        inner_kind, inner = _only(value)
        return _Name(str(inner)) if inner_kind == "as_name" else inner
    if kind == "as_none":
        return None
    if kind == "as_scalar_type":
        return _TYPES[value]
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[value]
    if kind == "as_layout":
        return torch.strided
    if kind == "as_device":
        return _DEVICE
    if kind in ("as_int", "as_float", "as_bool", "as_ints", "as_floats", "as_bools", "as_string"):
        return float(value) if kind == "as_float" else value
    raise CistError(f"{source} gives an operator an argument of the kind '{kind}', which is not read from files.")


def _read_results(outputs: list[Mapping[str, Any]]) -> tuple[tuple[str | None, ...], bool]:
    """Names of what an operator returns; several where it returns a tuple or a list of tensors."""
    if len(outputs) == 1:
        kind, value = _only(outputs[0])
        if kind == "as_tensors":
            return tuple(str(item["name"]) for item in value), True
    return tuple(_result_name(output) for output in outputs), len(outputs) != 1


def _result_name(output: Mapping[str, Any]) -> str | None:
    kind, value = _only(output)
    if kind == "as_tensor":
        return str(value["name"])
    return str(value["as_name"]) if kind in ("as_sym_int", "as_sym_float", "as_sym_bool") else None
