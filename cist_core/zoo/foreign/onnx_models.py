"""Networks in ONNX files, run by ONNX Runtime on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cist_core.errors import CistError, first_line
from cist_core.zoo.checkpoints import file_sha256
from cist_core.zoo.foreign.wrapping import (
    ASSUMED,
    ForeignModel,
    assumed_preprocessing,
    digest_of_files,
    only_text,
    require,
)
from cist_core.zoo.teacher import Teacher

# Operators of the standard and of ONNX Runtime itself; any other domain would need a library of its own, which is
# never loaded.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_INPUT_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
# Operators that hand on the numbers of their first input.
_PASSING_ON = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze")
_DEFAULT_SIZE = 224


def load_onnx(path: str | os.PathLike[str]) -> Teacher:
    """A teacher from an ONNX file: image size, channels and classes are the graph's, the normalisation is assumed.

    Weights beside the file (external data) are read only from files in its own folder.

    Raises:
        CistError: without onnx and onnxruntime, or if the file is damaged, is no image classifier, needs operators of
            another library, or names weights outside its folder.
    """
    source = Path(path)
    onnx, runtime = require("onnx", "onnx", "onnxruntime", purpose=f"The ONNX file {source.name}")
    graph = _parse(onnx, source)
    beside = _external_files(onnx, graph, source)
    session = _open_session(runtime, source)
    model = OnnxModel(session, probabilities=_ends_in_softmax(graph))
    size, assumed_size = _image_size(model, source)
    classes = _count_classes(model, size, source)
    return Teacher(
        name=source.name,
        model=model.eval(),
        architecture=f"ONNX graph of {len(graph.graph.node)} nodes",
        num_classes=classes,
        class_names=None,
        preprocessing=assumed_preprocessing(model.channels, size),
        checkpoint_sha256=digest_of_files([source, *beside]) if beside else file_sha256(source),
        facts=only_text(
            {
                "origin": f"ONNX, written by {graph.producer_name or 'an unnamed program'}",
                "preprocessing": ASSUMED,
                "image size": f"{size} pixels, {ASSUMED}" if assumed_size else None,
                "output": "probabilities; their logarithms are taken as logits" if model.probabilities else None,
            }
        ),
    )


class OnnxModel(ForeignModel):
    """``(N, channels, S, S)`` on any device to ``(N, C)`` float32 there; the graph itself runs on the CPU.

    Attributes:
        channels: that the graph reads.
        size: height and width that the graph reads, None for any.
        batch: a batch size that the graph was fixed to, None for any; smaller batches are padded, larger ones split.
        probabilities: whether the graph ends in a softmax; the logarithm of its output is then taken.
    """

    def __init__(self, session: Any, *, probabilities: bool) -> None:
        super().__init__()
        self._session, self.probabilities = session, probabilities
        (entry,) = session.get_inputs()
        self._input, self._type = entry.name, _INPUT_TYPES[entry.type]
        self._output = session.get_outputs()[0].name
        batch, *rest = entry.shape
        self._channels_last = rest[0] not in (1, 3) and rest[2] in (1, 3)
        self.channels = int(rest[2] if self._channels_last else rest[0])
        sides = rest[:2] if self._channels_last else rest[1:]
        self.sizes = tuple(side if isinstance(side, int) else None for side in sides)
        self.batch = batch if isinstance(batch, int) and batch > 0 else None

    def __deepcopy__(self, memo: dict[int, object]) -> OnnxModel:
        return self  # a session holds no state that a run changes, and cannot be copied

    def forward(self, images: Tensor) -> Tensor:
        array = images.detach().float().cpu().numpy()
        if self._channels_last:
            array = array.transpose(0, 2, 3, 1)
        step = self.batch or len(array)
        parts = [self._run(array[start : start + step]) for start in range(0, len(array), step)]
        logits = torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(images.device)
        return logits.clamp_min(torch.finfo(torch.float32).tiny).log() if self.probabilities else logits

    def _run(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        count = len(array)
        if self.batch is not None and count < self.batch:
            array = np.concatenate([array, np.repeat(array[-1:], self.batch - count, axis=0)])
        try:
            (out,) = self._session.run([self._output], {self._input: np.ascontiguousarray(array, self._type)})
        except Exception as error:  # the runtime has its own kinds of errors
            raise CistError(f"The ONNX network fails on a batch of images ({first_line(error)}).") from error
        result: np.ndarray[Any, Any] = np.asarray(out)[:count]
        return result


def _parse(onnx: Any, source: Path) -> Any:
    if not source.is_file():
        raise CistError(f"There is no ONNX file {source}.")
    try:
        graph = onnx.load(source, load_external_data=False)
    except Exception as error:  # protobuf's decoder has its own kinds of errors
        raise CistError(f"{source} is not a readable ONNX file ({first_line(error)}).") from error
    if not graph.graph.node:
        raise CistError(f"{source} is not an ONNX file: it holds no network.")
    foreign = sorted({node.domain for node in _nodes(graph) if node.domain not in _domains(graph)})
    if foreign:
        raise CistError(
            f"{source} needs operators of '{foreign[0]}', which would have to be loaded from a library; that is never "
            "done. Export the network with standard operators."
        )
    return graph


def _domains(graph: Any) -> set[str]:
    """Those that are known, and those of functions that the file defines by known ones."""
    return {*_DOMAINS, *(function.domain for function in graph.functions)}


def _nodes(graph: Any) -> Iterator[Any]:
    waiting = [graph.graph, *graph.functions]
    while waiting:
        part = waiting.pop()
        for node in part.node:
            yield node
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += attribute.graphs


def _external_files(onnx: Any, graph: Any, source: Path) -> list[Path]:
    """The files beside the graph that hold weights.

    Raises:
        CistError: for one that is not a file in the graph's own folder.
    """
    folder = source.resolve().parent
    files = set()
    for tensor in onnx.external_data_helper._get_all_tensors(graph):
        if not onnx.external_data_helper.uses_external_data(tensor):
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        path = folder / location
        outside = not location or Path(location).is_absolute() or ".." in Path(location).parts or "\\" in location
        if outside or path.resolve() != path or not path.resolve().is_relative_to(folder):
            raise CistError(
                f"{source} reads weights from '{location}', which is not a plain file in its own folder; it is not "
                "opened. Save the network with its weights inside, or beside it."
            )
        if not path.is_file():
            raise CistError(f"{source} has its weights in '{location}', which is missing; put it beside the file.")
        _check_range(entries, path, source)
        files.add(path)
    return sorted(files)


def _check_range(entries: dict[str, str], path: Path, source: Path) -> None:
    try:
        end = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
    except ValueError:
        end = -1
    if not 0 <= end <= path.stat().st_size:
        raise CistError(
            f"{source} reads beyond the end of {path.name}; the two do not belong together, or are damaged."
        )


def _open_session(runtime: Any, source: Path) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = runtime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        inputs = session.get_inputs()
        shape: list[Any] = inputs[0].shape if len(inputs) == 1 else []  # names of sizes may be no text
    except Exception as error:  # the runtime has its own kinds of errors
        raise CistError(f"{source} cannot be run by ONNX Runtime ({first_line(error)}).") from error
    if len(inputs) != 1 or inputs[0].type not in _INPUT_TYPES or len(shape) != 4 or not {1, 3} & {shape[1], shape[3]}:
        described = ", ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in inputs)
        raise CistError(
            f"Expected {source} to read one batch of images as floats, (N, channels, S, S) or (N, S, S, channels) with "
            f"1 or 3 channels, but it reads: {described or 'nothing'}."
        )
    if not session.get_outputs():
        raise CistError(f"Expected {source} to return logits, but it returns nothing.")
    return session


def _ends_in_softmax(graph: Any) -> bool:
    """Whether the first output is a softmax over the classes, behind it nothing but another shape or type."""
    writers = {name: node for node in graph.graph.node for name in node.output}
    node = writers.pop(graph.graph.output[0].name, None)
    while node is not None and node.op_type in _PASSING_ON:
        node = writers.pop(node.input[0], None)
    if node is None or node.op_type != "Softmax":
        return False
    # Without an axis it is 1 or the last, by the version of the operators.
    return all(attribute.i in (1, -1) for attribute in node.attribute if attribute.name == "axis")


def _image_size(model: OnnxModel, source: Path) -> tuple[int, bool]:
    """The side of the images, and whether the graph leaves it open and it is assumed."""
    height, width = model.sizes
    if height is not None and width is not None and height != width:
        raise CistError(f"Expected a network that reads square images, but {source} reads {height}x{width}.")
    size = height or width
    return (_DEFAULT_SIZE, True) if size is None else (int(size), False)


def _count_classes(model: OnnxModel, size: int, source: Path) -> int:
    """From one black image: what a graph declares about its output may be missing or wrong."""
    assumed_preprocessing(model.channels, size)  # refuses absurd sizes before an image is made
    logits = model(torch.zeros(1, model.channels, size, size))
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise CistError(
            f"Expected {source} to return logits of shape (N, classes), but one image gives {tuple(logits.shape)}."
        )
    return int(logits.shape[1])
