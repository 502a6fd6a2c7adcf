"""The answers of the Add page as data: the files behind them, the `AddSpec` they make, and what came of it in words."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from app.forms.references import InFile, OfText, class_map_words, own_name
from app.forms.run_views import duration
from app.state import Code
from cist_core.added import Added, AddedStore, AddSpec, LogitFiles, ModelOnData, Preview, PreviewImage, Progress
from cist_core.data.formats import image_endings, image_formats, paths_in_words
from cist_core.data.loading import DATASETS, is_present
from cist_core.errors import CistError
from cist_core.installing import pip_install
from cist_core.language.known import known_language_models
from cist_core.logits.class_maps import parse_class_map
from cist_core.logits.ensemble import ENSEMBLE
from cist_core.logits.files.formats import label_endings, logit_endings
from cist_core.registry import listed
from cist_core.wording import byte_size, percent
from cist_core.zoo.kinds import is_remote, model_kinds, teacher_endings, weight_endings

LOGITS, MODEL, TEXT = "Logits", "Model", "Text"
"""What is added."""
UPLOAD, SERVER, NAME, PASTE = "Upload", "Server path", "By name", "Paste"
"""Where a file or a model comes from."""

GIVEN_AS = ("auto", "logits", "log-probabilities", "probabilities")
SPLITS = ("test", "validation", "train")

TEACHER, LABELS, STUDENT, DATA, TEXTS = "teacher", "labels", "student", "data", "texts"
"""The places that a file can fill; uploads lie in a folder of this name."""
PREVIEW = "preview"
"""Where a fault is shown that belongs to no single place."""

TEXT_TYPES = ("txt", "jsonl")
MOST_CHARACTERS = 200_000
"""Of a text that is pasted."""
MOST_UPLOADS, MOST_UPLOADED = 64, 4_000_000_000
"""Files and bytes that one session may have on the server, in everything that it has begun and not deleted."""

_MANY = 2_000  # samples, from which on a tenth of a percent is more than one of them


# ---- the files -------------------------------------------------------------------------------------------------------


def keep_upload(
    store: AddedStore,
    added: Added,
    place: str,
    name: str,
    content: BinaryIO,
    *,
    beside: bool = False,
    begun: Collection[str] = (),
) -> Path:
    """Copy an uploaded file into the folder of its place, piece by piece.

    Args:
        store: that of the draft.
        added: the draft that it belongs to.
        place: what it is for.
        name: as the browser sent it; only a tidy form of it becomes a path.
        content: open for reading.
        beside: whether the files that are there stay; else it replaces them.
        begun: ids of what this session has begun; see `MOST_UPLOADS`.

    Raises:
        CistError: if it cannot be written, or the session has too much here already.
    """
    try:
        size = content.seek(0, os.SEEK_END)
        replaced = None if beside else added.uploads / place
        _check_session([store.root / each / "uploads" for each in {*begun, added.id}], size, replaced)
        store.check_room(size)
        content.seek(0)
        if not beside:
            shutil.rmtree(added.uploads / place, ignore_errors=True)
        path = added.place_for(name, place)
        with path.open("wb") as file:
            shutil.copyfileobj(content, file)
    except OSError as error:
        raise CistError(f"'{name}' cannot be kept ({error.strerror or error}); make room on the server.") from error
    return path


def _check_session(uploads: Iterable[Path], arriving: int, replaced: Path | None) -> None:
    files = [path for folder in uploads for path in folder.glob("*/*") if path.parent != replaced]
    total = arriving + sum(path.stat().st_size for path in files)
    if len(files) >= MOST_UPLOADS or total > MOST_UPLOADED:
        raise CistError(
            f"With this file you would have {len(files) + 1:,} files of {byte_size(total)} here, and {MOST_UPLOADS} of "
            f"{byte_size(MOST_UPLOADED)} in all are allowed; delete what you no longer need, or compute the logits "
            "with 'cist infer' on the command line and add those."
        )


def uploaded(added: Added | None, place: str) -> list[Path]:
    """The files that were uploaded for a place, the oldest first."""
    folder = added.uploads / place if added is not None else None
    if folder is None or not folder.is_dir():
        return []
    return sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)


def whose(*, signed_in: bool, own_machine: bool) -> str:
    """What the list of what was added holds."""
    if signed_in:
        return "What you have added while signed in."
    if own_machine:
        return "Everything that was added on this machine."
    return (
        "What was added in this browser, which alone can change or delete it. In another one the link to a view opens "
        "it, for anybody who has the link."
    )


def gone(added_id: str) -> str:
    """Why a link does not lead to what was being added."""
    return (
        f"There is nothing added under “{added_id[:80]}” that you can change: it may have been deleted, belong to "
        "somebody else, or have been added in another browser. Below you can add your own."
    )


# ---- the spec --------------------------------------------------------------------------------------------------------


def missing(answers: Mapping[str, Any]) -> str | None:
    """What has to be answered before anything can be looked at; None where nothing has."""
    if answers["kind"] == TEXT:
        if not answers[TEACHER]:
            return "Choose a language model."
        return None if answers[TEXTS] else "Give a text."
    if not answers[TEACHER]:
        return "Choose a file of logits." if answers["kind"] == LOGITS else "Choose a model."
    if answers["kind"] == MODEL and not answers[DATA]:
        return "Choose the data that the model is to answer."
    return None


def make_spec(answers: Mapping[str, Any]) -> AddSpec:
    """The spec of complete answers.

    Raises:
        CistError: for an answer that cannot be.
    """
    title = answers["title"] or suggested_title(answers)
    if answers["kind"] == LOGITS:
        files = {place: answers[place] or None for place in (TEACHER, LABELS, STUDENT)}
        said = {"given_as": answers["given_as"], "class_map": read_class_map(answers.get("class_map"))}
        return AddSpec.of(title=title, logits={**files, **said})
    if answers["kind"] == TEXT:
        read = {"length": answers["length"], "download": answers["download"]}
        return AddSpec.of(title=title, language=read | {"model": answers[TEACHER], "texts": answers[TEXTS]})
    limit = answers["limit"]
    return AddSpec.of(
        title=title,
        model={
            "teacher": answers[TEACHER],
            "architecture": answers["architecture"] or None,
            "weights": answers.get("weights") or None,
            "preprocessing": answers["preprocessing"],
            "data": answers[DATA],
            "split": answers["split"] or SPLITS[0],
            "limit": limit,
            "seed": answers["seed"] if limit is not None else None,
            "class_map": read_class_map(answers["class_map"]),
            "download": answers["download"],
        },
    )


def same_but_for_the_title(a: AddSpec | None, b: AddSpec | None) -> bool:
    """Whether a preview of one is a preview of the other."""
    parts = ("logits", "model", "language")
    return a is not None and b is not None and all(getattr(a, part) == getattr(b, part) for part in parts)


def suggested_title(answers: Mapping[str, Any]) -> str:
    """What the new source is called unless somebody names it: the model, and the data it answered."""
    teacher = ENSEMBLE.join(_stem(name) for name in str(answers[TEACHER]).split(ENSEMBLE))
    on = {MODEL: DATA, TEXT: TEXTS}.get(answers["kind"])
    whole = teacher if on is None else f"{teacher} on {_stem(str(answers[on]))}"
    return whole[:80]


def read_class_map(text: str | None) -> dict[str, str] | None:
    """Lines such as ``automobile = car`` (`parse_class_map`), nothing for a class that is left out; None without lines.

    Raises:
        CistError: for a line that is none.
    """
    found = parse_class_map(text or "")
    return {str(of_data): "" if to is None else str(to) for of_data, to in found.items()} or None


def write_class_map(mapping: Mapping[str, str]) -> str:
    """As `read_class_map` reads it."""
    return "\n".join(f"{of_data} = {of_teacher}" for of_data, of_teacher in mapping.items())


def read_channels(text: str, what: str) -> list[float]:
    """Numbers of each channel, such as ``0.485, 0.456, 0.406``.

    Raises:
        CistError: for anything else.
    """
    try:
        return [float(part) for part in text.replace(",", " ").replace(";", " ").split()]
    except ValueError:
        raise CistError(
            f"Expected {what} to be a number for each channel, such as 0.485, 0.456, 0.406, but got '{text}'."
        ) from None


def write_channels(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def is_checkpoint(answers: Mapping[str, Any]) -> bool:
    """Whether the model's architecture can be chosen: a file of weights alone does not name it."""
    teacher = str(answers[TEACHER] or "")
    return bool(teacher) and all(Path(name).suffix.lower() in weight_endings() for name in teacher.split(ENSEMBLE))


def may_need_download(answers: Mapping[str, Any]) -> bool:
    """Whether what is named may not be on this machine."""
    named = ENSEMBLE.join(str(answers.get(place) or "") for place in (TEACHER, DATA, TEXTS)).split(ENSEMBLE)
    return any(is_remote(name) or (name in DATASETS and not is_present(name)) for name in named)


def weights_offered(added: Added) -> list[str] | None:
    """The groups of weights that can be taken from the checkpoint; None where there is nothing to choose."""
    spec, preview = added.spec, added.preview
    chosen = None if spec is None or spec.model is None else spec.model.weights
    names = added.weights_named if preview is None else preview.other_weights
    if not names and chosen is None:
        return None
    return list(dict.fromkeys([*names, *([chosen] if chosen else [])]))


def restored(added: Added) -> dict[str, Any]:
    """The answers of what was asked for last, for somebody who comes back by a link."""
    spec = added.spec
    if spec is None:
        return {}
    if spec.logits is not None:
        files = {place: getattr(spec.logits, place) for place in (TEACHER, LABELS, STUDENT)}
        said = {"given_as": spec.logits.given_as, "class_map": write_class_map(spec.logits.class_map or {})}
        return {"kind": LOGITS, **said, **_origins(added, files)}
    if spec.language is not None:
        language = spec.language
        answered = {"kind": TEXT, "length": language.length, "download": language.download}
        return {**answered, "lm": language.model, **_origins(added, {TEXTS: language.texts})}
    assert spec.model is not None
    model = spec.model
    answers = {
        "kind": MODEL,
        "architecture": model.architecture,
        "weights": model.weights,
        "split": model.split,
        "limit": model.limit,
        "seed": model.seed or 0,
        "class_map": write_class_map(model.class_map or {}),
        "download": model.download,
        "preprocessing": model.preprocessing,
    }
    return answers | _origins(added, {TEACHER: model.teacher, DATA: model.data})


def _origins(added: Added, files: Mapping[str, str | None]) -> dict[str, Any]:
    """Which control a file or name was given in."""
    answers = {}
    for place, text in files.items():
        if text is None or uploaded(added, place):
            answers[f"{place}_from"] = UPLOAD
            continue
        origin = SERVER if Path(text).is_absolute() else NAME
        answers |= {f"{place}_from": origin, f"{place}_{'path' if origin == SERVER else 'name'}": text}
    return answers


# ---- what is there ---------------------------------------------------------------------------------------------------


def logit_types() -> list[str]:
    """The endings of files of logits."""
    return _bare(logit_endings())


def label_types() -> list[str]:
    return _bare(label_endings())


def checkpoint_types() -> list[str]:
    return _bare(teacher_endings())


def data_types() -> list[str]:
    """The endings of files that hold images themselves; others name files beside them."""
    return _bare(image_endings(complete=True))


def data_help() -> str:
    """What a file of images holds."""
    contents = [each.contents for each in image_formats() if each.complete and each.contents]
    return f"Either {listed(contents)}"


def data_path_help() -> str:
    """What a path of images on the server may be."""
    return f"One of: {paths_in_words()}."


def _bare(endings: Sequence[str]) -> list[str]:
    return [ending.removeprefix(".") for ending in endings]


def known_prefixes() -> str:
    """What models can be named with the packages that are installed, and what brings the others."""
    kinds = [kind for kind in model_kinds() if kind.remote]
    lacking = [kind for kind in kinds if kind.package and importlib.util.find_spec(kind.package) is None]
    there = [f"`{kind.written}`" for kind in kinds if kind not in lacking]
    known = f"A sample model, or {listed(there)}. Several joined by ` + ` are averaged."
    needs = "".join(f" For `{kind.written}`, `{pip_install(kind.extra)}`." for kind in lacking if kind.extra)
    return known + needs


# ---- in words --------------------------------------------------------------------------------------------------------


def language_models() -> dict[str, str]:
    """The language models of this machine by name, with what they are called; those that ship first."""
    return {
        model.name: f"{model.name}: {model.title}" if model.card else model.title
        for model in known_language_models()
        if model.path is not None
    }


def texts_help() -> str:
    """What a file of texts holds."""
    return (
        "A plain text in UTF-8, or `.jsonl` with an object a line: `text`; `prompt` and `response`; or `messages` of a "
        "chat"
    )


def headline(preview: Preview, name: str, *, of_text: bool = False) -> str:
    """What the preview found, in one sentence: how good the answers are, and how long all of them will take."""
    if of_text:
        found = f"{name}: {preview.num_samples:,} tokens count, over a vocabulary of {preview.num_classes:,}"
    elif preview.accuracy is None:
        found = f"{name} has {preview.num_classes:,} classes and {preview.num_samples:,} samples, without labels"
    elif preview.sample_size < preview.num_samples:
        share = accuracy(preview.accuracy, preview.sample_size)
        found = f"{name} answers {share} of a sample of {preview.sample_size:,} right"
    else:
        found = (
            f"{name} answers {accuracy(preview.accuracy, preview.num_samples)} of {preview.num_samples:,} samples right"
        )
    if preview.seconds is None:
        return found
    return f"{found}; all{'' if of_text else f' {preview.num_samples:,}'} will take about {duration(preview.seconds)}"


def accuracy(share: float, count: int) -> str:
    """A share with as many digits as the number of samples bears."""
    return f"{share * 100:.2f} %" if count >= _MANY else percent(share)


def facts_line(preview: Preview, *, of_text: bool = False) -> str:
    """What it is, in one line."""
    if of_text:
        parts = [preview.architecture or "", f"{preview.parameters or 0:,} parameters"]
        parts += [f"vocabulary of {preview.num_classes:,}", f"{preview.num_samples:,} tokens"]
        if preview.accuracy is not None:
            parts.append(
                f"of the first {preview.sample_size:,}, {percent(preview.accuracy)} are what it held most likely"
            )
        return " · ".join(parts)
    parts = [preview.architecture] if preview.architecture else []
    if preview.parameters:
        parts.append(f"{preview.parameters:,} parameters")
    parts += [f"{preview.num_classes:,} classes", f"{preview.num_samples:,} samples"]
    return " · ".join(parts)


def card(image: PreviewImage) -> tuple[str, bool]:
    """The words under an image, and whether the answer is right."""
    right = image.label == image.prediction
    sure = percent(image.probability).replace(" ", "\u00a0")  # stays on one line under a narrow picture
    return (f"{image.label}, {sure}" if right else f"{image.label}, taken for {image.prediction}, {sure}"), right


def progress_words(progress: Progress | None, *, of_text: bool = False) -> tuple[float, str]:
    """The share that is done, and the line beside the bar."""
    if progress is None or not progress.total:
        return 0.0, "Opening the files"
    share = min(progress.done / progress.total, 1.0)
    words = f"{progress.done:,} of {progress.total:,} {'tokens' if of_text else 'samples'}"
    if progress.seconds_left is not None and share < 1:
        words += f", about {duration(progress.seconds_left)} left"
    return share, words


def blame(reason: str, spec: AddSpec, uploads: Path) -> str:
    """The place whose file or name a fault speaks of first; the preview where it speaks of none."""
    found: dict[str, int] = {}
    for place, text in _named(spec).items():
        for name in {str(uploads / place), *text.split(ENSEMBLE), *(Path(part).name for part in text.split(ENSEMBLE))}:
            at = reason.find(name)
            if at >= 0:
                found[place] = min(at, found.get(place, at))
    return min(found, key=lambda place: found[place]) if found else PREVIEW


def in_own_words(reason: str, uploads: Path) -> str:
    """A fault with the user's file names instead of where they lie on the server, and fields instead of options."""
    named = re.sub(re.escape(str(uploads)) + r"/(\w+/)?", "", reason)
    named = re.sub(r"--given-as (\S+)", r"“Values are: \1”", named)
    return re.sub(r"--(arch|weights|class-map)( \S+)? \(`\w+=` in Python\)", _field, named)


def _field(option: re.Match[str]) -> str:
    name = {"arch": "Architecture", "weights": "Weights", "class-map": "Class map"}[option[1]]
    return f"the field {name}" + (f":{option[2]}" if option[2] else "")


def _named(spec: AddSpec) -> dict[str, str]:
    if spec.language is not None:
        return {TEACHER: spec.language.model, TEXTS: spec.language.texts}
    part = spec.logits or spec.model
    texts = {place: getattr(part, place, None) for place in (TEACHER, LABELS, STUDENT, DATA)}
    return {place: text for place, text in texts.items() if text}


def _stem(name: str) -> str:
    """``resnet56`` of ``/data/resnet56.pt`` and of ``timm:resnet56``."""
    tail = re.split(r"[/\\]", name.rpartition(":")[2])[-1]
    known = {*label_endings(), *image_endings(), *teacher_endings(), *(f".{ending}" for ending in TEXT_TYPES)}
    return Path(tail).stem if Path(tail).suffix.lower() in known else tail


# ---- the same without the app ----------------------------------------------------------------------------------------


def code(spec: AddSpec, uploads: Path, split: str | None) -> Code:
    """The command line and the Python that make the same logits, with the user's own file names.

    Args:
        spec: what was added.
        uploads: the folder of its files.
        split: of the data that was opened, as `Preview.split`.
    """

    def own(text: str) -> str:
        return ENSEMBLE.join(own_name(part, uploads) for part in text.split(ENSEMBLE))

    if spec.logits is not None:
        return _logits_code(spec.logits, own)
    if spec.language is not None:
        return _texts_code(OfText(own(spec.language.model), own(spec.language.texts), spec.language.length))
    assert spec.model is not None
    return _model_code(spec.model, own, "" if split == "all" else spec.model.split)


def _logits_code(files: LogitFiles, own: Callable[[str], str]) -> Code:
    labels = None if files.labels is None else own(files.labels)
    teacher = InFile(own(files.teacher), labels, files.given_as, files.class_map)
    student = "" if files.student is None else f" {InFile(own(files.student)).as_student(teacher)}"
    return Code(
        f"cist analyze {teacher.arguments}{student}",
        f"from cist_core import EntropyCurves\n{teacher.imports}\n"
        f"logits = {teacher.expression}\n"
        "curves = EntropyCurves.from_logits(logits)\n",
    )


def _texts_code(reference: OfText) -> Code:
    return Code(f"cist analyze {reference.arguments}", f"{reference.imports}\n{reference.loading}")


def _model_code(model: ModelOnData, own: Callable[[str], str], split: str) -> Code:
    teacher, data = own(model.teacher), own(model.data)
    options = [
        *("--teacher", teacher),
        *(("--arch", model.architecture) if model.architecture else ()),
        *(("--weights", model.weights) if model.weights else ()),
        *("--data", data),
        *(("--split", split) if split else ()),
        *(("--limit", str(model.limit)) if model.limit else ()),
        *(("--seed", str(model.seed)) if model.seed is not None else ()),
        *(("--download",) if model.download else ()),
        *(("--class-map", *class_map_words(model.class_map)) if model.class_map is not None else ()),
        *("--out", "logits.safetensors"),
    ]
    command = "# The preprocessing is set in Python, below." if model.preprocessing is not None else ""
    fetch = ", download=True" if model.download else ""
    arguments = (f", {model.architecture!r}" if model.architecture else "") + fetch
    arguments += f", weights={model.weights!r}" if model.weights else ""
    limit = "" if model.limit is None else f", limit={model.limit}, seed={model.seed}"
    imports = ["from cist_core.data.loading import load_dataset", "from cist_core.inference.run import infer"]
    imports.append("from cist_core.inference.sources import find_teacher")
    body = [f"teacher = find_teacher({teacher!r}{arguments})"]
    if model.preprocessing is not None:
        imports = [
            "from dataclasses import replace",
            "",
            *imports,
            "from cist_core.zoo.preprocessing import Preprocessing",
        ]
        body += [
            f"changed = {dict(model.preprocessing)!r}",
            "preprocessing = Preprocessing.from_dict({**teacher.preprocessing.to_dict(), **changed})",
            "teacher = replace(teacher, preprocessing=preprocessing)",
        ]
    body.append(f"dataset = load_dataset({data!r}{f', {split!r}' if split else ''}{fetch})")
    if model.class_map is not None:
        imports = [line.replace("import infer", "import fit_data, infer") for line in imports]
        body.append(f"dataset = fit_data(teacher, dataset, {model.class_map!r})")
    body += [f"logits = infer(teacher, dataset{limit}).logit_set", 'logits.save("logits.safetensors")']
    return Code(command or f"cist infer {shlex.join(options)}", "\n".join([*imports, "", *body]) + "\n")
