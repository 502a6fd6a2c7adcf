"""What works on this machine: one check after the other, each with a sentence and, where something is amiss, a remedy.

Nothing here prints a secret, and a check that fails in an unforeseen way is itself a finding.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

from cist_core import __version__
from cist_core.cores import usable_cores
from cist_core.errors import CistError, first_line
from cist_core.installing import pip, pip_install
from cist_core.studio import HOW_TO_GET_THEM, studio_folder
from cist_core.wording import byte_size, three_digits

DISTRIBUTION = "cist-studio"
EXTRAS = {
    "studio": "the app in the browser",
    "timm": "teachers from timm",
    "hf": "models and data sets in the formats of Hugging Face",
    "language": "language models",
    "smollm2": "language models in GGUF files",
    "onnx": "teachers as ONNX files",
    "lightning": "recording logits inside Lightning",
    "slurm": "runs on Slurm",
    "ray": "the nodes of a Ray cluster, for runs there",
    "search": "searches with optuna",
    "auth": "sign-in",
}
LITTLE_SPACE, NO_SPACE = 2 << 30, 100 << 20
_JUDGED, _JUDGED_SETS, _JUDGED_BYTES = 5_000, 10, 1 << 28  # samples of a set, and sets of what was added
_TOLERANCE = 1e-4  # nats, as the kernels promise


class State(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Works, but not all of it, or not as well as it could."""
    BROKEN = "broken"
    """Something that is needed does not work."""


@dataclass(frozen=True)
class Check:
    """What was found about one thing.

    Attributes:
        name: of the thing.
        state: whether it works.
        sentence: what was found, and what to do about it.
    """

    name: str
    state: State
    sentence: str


def examine() -> Iterator[Check]:
    """All checks, each as soon as it is done; importing torch takes most of the time, a few seconds.

    Example:
        >>> python = next(examine())
        >>> python.name, python.state
        ('Python', <State.OK: 'ok'>)
    """
    for name, check in CHECKS.items():
        try:
            yield from check(name)
        except CistError as error:
            yield Check(name, State.BROKEN, str(error))
        except Exception as error:  # whatever a damaged installation raises
            reason = f"{type(error).__name__}: {first_line(error)}"
            yield Check(name, State.BROKEN, f"This could not be looked at ({reason}).")


def is_usable(checks: list[Check]) -> bool:
    """Whether nothing that is needed is broken."""
    return all(check.state is not State.BROKEN for check in checks)


# ---- the installation ------------------------------------------------------------------------------------------------


def _python(name: str) -> Iterator[Check]:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check(name, State.OK, f"{found}, {DISTRIBUTION} {__version__}.")


def _packages(name: str) -> Iterator[Check]:
    faults, versions = [], []
    for text in _requirements(""):
        problem = _problem(text)
        if problem is not None:
            faults.append(problem)
        else:
            package = _package(text)
            versions.append(f"{package} {metadata.version(package)}")
    if faults:
        yield Check(name, State.BROKEN, f"{'; '.join(faults)}: {pip(f'install --upgrade {DISTRIBUTION}')}.")
    else:
        yield Check(name, State.OK, f"{', '.join(versions)}.")


def _extras(_: str) -> Iterator[Check]:
    for extra, purpose in EXTRAS.items():
        required = _requirements(extra)
        faults = [problem for problem in map(_problem, required) if problem is not None]
        if not required:
            continue  # the installed version does not offer it
        if faults:
            sentence = f"Not installed: {purpose}. {pip_install(extra)} ({'; '.join(faults)})."
            yield Check(f"Extra {extra}", State.NOTE, sentence)
        else:
            yield Check(f"Extra {extra}", State.OK, f"Installed: {purpose}.")


def _requirements(extra: str) -> list[str]:
    """What the distribution requires, always or for an extra."""
    try:
        return _required_by(DISTRIBUTION, extra)
    except metadata.PackageNotFoundError as error:
        raise CistError(
            f"{DISTRIBUTION} runs from a source tree that is not installed, so its requirements are not known; "
            "pip install -e '.[studio]' in the clone."
        ) from error


def _required_by(distribution: str, extra: str) -> list[str]:
    from packaging.requirements import Requirement

    chosen = []
    for text in metadata.requires(distribution) or []:
        marker = Requirement(text).marker
        # An extra's own requirements are those that hold with it and not without it.
        with_extra = marker is None or marker.evaluate({"extra": extra})
        always = marker is None or marker.evaluate({"extra": ""})
        if with_extra and (not extra or not always):
            chosen.append(text)
    return chosen


def _package(text: str) -> str:
    from packaging.requirements import Requirement

    return Requirement(text).name


def _problem(text: str) -> str | None:
    """What is wrong with a requirement here; its extras are looked at as well."""
    from packaging.requirements import Requirement

    requirement = Requirement(text)
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} is {version}, but {requirement.specifier} is needed"
    inner = (_problem(more) for extra in sorted(requirement.extras) for more in _required_by(requirement.name, extra))
    return next((problem for problem in inner if problem is not None), None)


# ---- the machine -----------------------------------------------------------------------------------------------------


def _device(name: str) -> Iterator[Check]:
    started = time.perf_counter()
    import torch

    took = f"importing torch {torch.__version__} took {three_digits(time.perf_counter() - started)} s"
    threads = f"{torch.get_num_threads()} of {usable_cores()} cores for networks"
    if torch.cuda.is_available():
        cards = ", ".join(_card(torch.cuda.get_device_properties(index)) for index in range(torch.cuda.device_count()))
        yield Check(name, State.OK, f"Networks run on CUDA: {cards}; {took}.")
    elif torch.backends.mps.is_available():
        yield Check(name, State.OK, f"Networks run on Apple's MPS; {took}.")
    elif torch.version.cuda is not None and shutil.which("nvidia-smi"):
        yield Check(
            name,
            State.NOTE,
            f"This machine has an NVIDIA driver, but torch finds no GPU, so networks run on the CPU with {threads}; "
            f"compare the driver with torch's CUDA {torch.version.cuda}, and give a container its device. {took}.",
        )
    else:
        yield Check(name, State.OK, f"Networks run on the CPU, {threads}; {took}.")


def _card(properties: object) -> str:
    memory = getattr(properties, "total_memory", 0)
    return f"{getattr(properties, 'name', 'a GPU')} with {byte_size(memory, binary=True)}"


def _kernels(name: str) -> Iterator[Check]:
    import numpy as np

    started = time.perf_counter()
    from cist_core import kernels
    from cist_core.kernels.threads import thread_count

    logits = np.random.default_rng(0).normal(size=(40, 7)).astype(np.float32) * 3
    _, entropies = kernels.first_pass(logits, tau=2.0)
    took = time.perf_counter() - started
    exact = logits.astype(np.float64) / 2
    soft = np.exp(exact - exact.max(axis=1, keepdims=True))
    soft /= soft.sum(axis=1, keepdims=True)
    error = float(np.abs(entropies + (soft * np.log(soft)).sum(axis=1)).max())
    if not error < _TOLERANCE:
        yield Check(
            name,
            State.BROKEN,
            f"Entropies differ from NumPy's by {error:.2g} nats, where {_TOLERANCE:g} is allowed; empty numba's cache "
            "(NUMBA_CACHE_DIR, or __pycache__ beside the kernels) and reinstall numba.",
        )
        return
    yield Check(
        name,
        State.OK,
        f"Compiled, and within {error:.0e} nats of NumPy; {thread_count()} threads, ready after "
        f"{three_digits(took)} s.",
    )


# ---- folders ---------------------------------------------------------------------------------------------------------


def _cache(name: str) -> Iterator[Check]:
    from cist_core.logits.scratch import cache_dir

    yield _folder(name, cache_dir(), "CIST_CACHE")


def _data(name: str) -> Iterator[Check]:
    from cist_core.data.loading import data_root

    yield _folder(name, data_root(), "CIST_DATA")


def _runs(name: str) -> Iterator[Check]:
    from cist_core.runs import RunStore

    store = RunStore()
    yield _folder(name, store.root, "CIST_RUNS")
    if store.rebuilt is not None:
        yield Check("Table of runs", State.NOTE, f"{store.rebuilt} Remove {store.notice_file} when you have read this.")
    running, queued = len(store.running()), store.has_queued()
    if store.has_worker():
        yield Check("Worker", State.OK, f"A worker lives; {_runs_of(running)}.")
    elif queued or running:
        yield Check(
            "Worker",
            State.NOTE,
            f"No worker lives, but {'runs wait' if queued else _runs_of(running)}; start 'cist worker', or open the "
            "Runs page of the app, which starts one.",
        )
    else:
        yield Check("Worker", State.OK, "No worker lives, and no run waits; the app starts one when it is needed.")


def _runs_of(count: int) -> str:
    return f"{count} run{'s' * (count != 1)} in progress"


def _added(name: str) -> Iterator[Check]:
    from cist_core.added import AddedStore
    from cist_core.logits.logit_set import LogitSet

    store = AddedStore()
    yield _folder(name, store.root, "CIST_ADDED")
    small = [added for added in store.ready() if added.logit_file.stat().st_size <= _JUDGED_BYTES]
    for added in small[:_JUDGED_SETS]:
        if (doubt := _doubt(LogitSet.load(added.logit_file))) is not None:
            yield Check("Added logits", State.NOTE, f"{added.title}: {doubt}")


def _folder(name: str, folder: Path, variable: str) -> Check:
    """Whether a folder, or the one in which it will be made, can be written to and has room."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"?")
    except OSError as error:
        return Check(
            name,
            State.BROKEN,
            f"{folder} cannot be written to ({error.strerror or error}); set {variable} to another folder.",
        )
    free = shutil.disk_usage(there).free
    found = f"{folder}, {byte_size(free, binary=True)} free"
    if free < NO_SPACE:
        return Check(name, State.BROKEN, f"{found}; make room there, or set {variable} to another folder.")
    if free < LITTLE_SPACE:
        return Check(name, State.NOTE, f"{found}, which is little; make room, or set {variable} to another folder.")
    return Check(name, State.OK, f"{found}.")


def _roots(name: str) -> Iterator[Check]:
    named = [text for text in os.environ.get("CIST_ROOTS", "").split(os.pathsep) if text.strip()]
    if not named:
        yield Check(name, State.OK, "No folder of this machine is open to visitors; CIST_ROOTS names those that are.")
        return
    from cist_core.added import roots

    missing = [text for text in named if not Path(text).expanduser().is_dir()]
    unreadable = [str(folder) for folder in roots() if not os.access(folder, os.R_OK | os.X_OK)]
    found = f"Open to visitors: {', '.join(map(str, roots())) or 'none'}"
    if missing or unreadable:
        yield Check(
            name,
            State.NOTE,
            f"{found}. CIST_ROOTS also names {', '.join(missing + unreadable)}, which is not there or cannot be read; "
            "mount it, or take it out.",
        )
    else:
        yield Check(name, State.OK, f"{found}.")


# ---- what ships, and who may -----------------------------------------------------------------------------------------


def _sample_models(name: str) -> Iterator[Check]:
    from safetensors import safe_open

    from cist_core.cards import sample_models, sample_models_folder
    from cist_core.logits.logit_set import LogitSet

    cards, folder = sample_models(), sample_models_folder()
    if not cards:
        yield Check(
            name,
            State.NOTE,
            f"None {f'in {folder}' if folder else 'installed'}; {HOW_TO_GET_THEM}.",
        )
        return
    doubts = []
    for card in cards:
        try:
            with safe_open(card.checkpoint, framework="np") as file:
                file.keys()
        except Exception as error:
            raise CistError(f"{card.checkpoint} cannot be read ({error}); restore it.") from error
        for split in card.content["logits"]:
            logits = card.logits(card.data, split)
            if logits is None:
                raise CistError(f"The logits of '{card.name}' on {card.data} ({split}) are missing; restore them.")
            if (doubt := _doubt(LogitSet.load(logits))) is not None:
                doubts.append(f"'{card.name}' on {card.data} ({split}): {doubt}")
    if doubts:
        yield Check(name, State.BROKEN, f"{' '.join(doubts)} Restore {folder}.")
        return
    yield Check(name, State.OK, f"{len(cards)} in {folder}, with weights and logits.")


def _doubt(logit_set: Any) -> str | None:
    """What speaks against the accuracy of some logits, on at most `_JUDGED` of the samples."""
    from cist_core.data.dataset import evenly_spaced
    from cist_core.logits.accuracy import judge_accuracy

    if logit_set.num_samples > _JUDGED:
        logit_set = logit_set.take(evenly_spaced(logit_set.num_samples, _JUDGED))
    judged = judge_accuracy(logit_set)
    return " ".join(judged.sentences) or None if judged is not None else None


def _sign_in(name: str) -> Iterator[Check]:
    from cist_core.sign_in import read_sign_in, secrets_there

    named = os.environ.get("STREAMLIT_SECRETS_FILES", "").split()
    files = secrets_there(named or _usual_secrets(), named=bool(named))
    if not files:
        yield Check(name, State.OK, "Not set up: whoever reaches the app may use it; docs/sign-in.md says how to.")
        return
    secrets: dict[str, Any] = {}
    for file in files:
        secrets |= _toml(file)  # a section of a later file replaces that of an earlier one, as Streamlit has it
    sign_in, where = read_sign_in(secrets), ", ".join(map(str, files))
    exposed = [str(file) for file in files if os.name == "posix" and file.stat().st_mode & stat.S_IROTH]
    if sign_in is None:
        yield Check(name, State.OK, f"Not set up in {where}: whoever reaches the app may use it.")
    elif sign_in.allowed == ():
        yield Check(name, State.NOTE, f"Set up in {where}, but allowed of [cist] is empty: nobody may; name somebody.")
    elif exposed:
        yield Check(
            name,
            State.NOTE,
            f"Set up in {where}, but everybody on this machine can read it: chmod 600 {' '.join(exposed)}.",
        )
    else:
        yield Check(name, State.OK, f"Set up in {where}, with {', '.join(sign_in.providers)}.")


def _usual_secrets() -> list[Path]:
    """Where Streamlit looks, in its order: at home, where it is started, beside the app."""
    studio = studio_folder()
    folders = (Path.home(), Path.cwd(), *([] if studio is None else [studio / "app"]))
    return list(dict.fromkeys(folder / ".streamlit" / "secrets.toml" for folder in folders))


def _toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CistError(f"{file} cannot be read ({error.strerror}); let the user of the app read it.") from error
    except ValueError as error:  # without its text, which could quote a secret
        raise CistError(f"{file} is not valid TOML; docs/sign-in.md shows what it holds.") from error


CHECKS: dict[str, Callable[[str], Iterator[Check]]] = {
    "Python": _python,
    "Packages": _packages,
    "Extras": _extras,
    "Device": _device,
    "Kernels": _kernels,
    "Cache": _cache,
    "Data": _data,
    "Runs": _runs,
    "Added": _added,
    "Server paths": _roots,
    "Sample models": _sample_models,
    "Sign-in": _sign_in,
}
