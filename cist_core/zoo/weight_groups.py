"""The groups of weights that a file holds, and which of them are meant: an average, a teacher, what a loop wraps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from torch import Tensor

from cist_core.errors import CistError

Role = Literal["teacher", "student"]
Network = TypeVar("Network")
Fits = Callable[[Mapping[str, Tensor]], Sequence[Network]]
"""The networks that a state dict fits; empty where there is none."""

# Where the training scripts of the field put the weights inside a checkpoint; of several, the first is meant.
WRAPPERS = ("state_dict", "model", "net", "network", "model_state_dict", "module", "weights", "params")
# What wraps every name of a state dict: data parallelism, Lightning and other loops around a module, torch.compile.
PREFIXES = ("module.", "model.", "net.", "teacher.", "student.", "_orig_mod.")

# Wrappers in wrappers; a pickle may hold one dict under several names, or one that holds itself.
_DEEPEST = 8
_MOST_NAMES = 4
_DEEPEST_PREFIX = 4

_AVERAGE = {"ema", "swa", "averaged", "average"}
_ROLES: dict[str, set[str]] = {
    "teacher": {"teacher", "teachers", "teacher_model", "model_teacher", "model_t", "net_t"},
    "student": {"student", "students", "student_model", "model_student", "model_s", "net_s"},
}
# What training leaves beside a network and no answer depends on: modules of a loss or a metric, counters of an average.
_APART = re.compile(
    r"(\w+_)?(criterion|criteria|loss|loss_fn|loss_func|loss_function|losses|metric|metrics|acc|accuracy|auroc|auc|f1"
    r"|precision|recall|confmat|confusion_matrix)(_\w+)?"
)
_BESIDE = {
    "n_averaged", "num_updates", "decay", "step", "steps", "initted", "class_weights", "class_weight", "pos_weight",
    "label_weights", "queue", "queue_ptr",
}  # fmt: skip
_NAMES_SHOWN = 6


class UnclearWeights(CistError):  # noqa: N818 - it is a question
    """Which weights of a file are meant has to be said.

    Attributes:
        names: of the groups that can be named.
    """

    def __init__(self, sentence: str, names: Sequence[str]) -> None:
        super().__init__(sentence)
        self.names = tuple(names)


@dataclass(frozen=True)
class WeightGroup:
    """Weights under one name of a file.

    Attributes:
        name: the keys that lead to them, joined by dots; empty where the file is nothing but these.
        state: names to tensors, without what wraps all names.
        beside: names of what is no weight of a network: a loss, counters, entries that are no tensors.
        is_average: whether it is a running average of other weights.
    """

    name: str
    state: Mapping[str, Tensor]
    beside: tuple[str, ...] = ()
    is_average: bool = False

    def is_of(self, role: str) -> bool:
        """Whether the name says that it is the teacher's, or the student's."""
        return not _ROLES[role].isdisjoint(self.name.lower().split("."))

    def described(self) -> str:
        """For a list: the name, how many weights, and how their names begin."""
        begins = list(Counter(name.partition(".")[0] for name in self.state))
        shown = ", ".join(begins[:_NAMES_SHOWN]) + ", ..." * (len(begins) > _NAMES_SHOWN)
        return f"{self.name or 'weights without a name'} ({len(self.state):,} tensors: {shown})"


@dataclass(frozen=True)
class ChosenWeights(Generic[Network]):
    """Which of the groups of weights in a file are taken.

    Attributes:
        group: these.
        others: names of the groups that could be taken in their place.
        left_out: those names, and the names of what is no weight of a network.
        fits: the networks that they fit; empty where nothing in the file fits one.
        listing: all groups of the file, for errors.
    """

    group: WeightGroup
    others: tuple[str, ...]
    left_out: tuple[str, ...]
    fits: Sequence[Network]
    listing: str

    @property
    def sentence(self) -> str | None:
        """Which they are and what is left out, for people; None where there is nothing to choose or leave out."""
        if not self.left_out:
            return None
        average = ", a running average" if self.group.is_average else ""
        taken = self.group.name or "those of the network"
        return f"{taken}{average}; left out: {_listed(self.left_out)}"


def find_groups(content: object) -> list[WeightGroup]:
    """The state dicts in a file's content, at whatever depth, the one that is usually meant first.

    A running average comes before the weights it averages, as in timm's ``load_checkpoint`` (``use_ema=True``) and in
    the evaluation of torchvision's reference training. Two libraries exchange the two when they save, so that what they
    call ``state_dict`` is the average: MMEngine (``EMAHook``) and Lightning (``WeightAveraging``).
    """
    exchanged = _exchanged(content)
    found = list(_state_dicts(content))
    real = [each for each in found if _could_be_a_network(each[1])] or found
    groups = [_group(*each, exchanged) for each in real]
    return sorted(groups, key=lambda group: (not group.is_average, group.name in exchanged.values(), _place(group)))


def choose_weights(
    content: object, fits: Fits[Network], *, source: str, weights: str | None = None, role: Role = "teacher"
) -> ChosenWeights[Network]:
    """The weights of a file that are meant: those that are named, else the first of `find_groups` that fit a network.

    Where a group fits none as a whole, the parts of it under one prefix are tried: ``student`` beside ``teacher``,
    ``model`` beside ``criterion``. Such a part is taken unasked only where what is left out is known to be no part of
    the network: another network, a loss, a counter.

    Args:
        content: of the file.
        fits: see `Fits`.
        source: the file, for errors.
        weights: the name of a group, or the end of it; None: the usual one.
        role: which of the two is meant where a file holds a teacher and a student.

    Raises:
        CistError: if there are no weights.
        UnclearWeights: if there are none of that name, or it has to be said which are meant.
    """
    groups = find_groups(content)
    if not groups:
        named = ", ".join(f"'{name}'" for name in WRAPPERS[:5])
        raise CistError(
            f"{source} holds no state dict, neither by itself nor under {named} or another name; "
            "save `model.state_dict()` into it."
        )
    choice = _Choice(groups, fits, source, role)
    if weights is not None:
        return choice.named(weights)
    return choice.usual()


def without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes that all names share; ``module.`` is no layer's name and goes wherever it leads."""
    state = {name.removeprefix(PREFIXES[0]): tensor for name, tensor in state.items()}
    while shared := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), None):
        state = {name.removeprefix(shared): tensor for name, tensor in state.items()}
    return state


# ---- what is in a file -----------------------------------------------------------------------------------------------


_Found = tuple[tuple[str, ...], dict[str, Tensor], tuple[str, ...]]


def _state_dicts(content: object) -> Iterator[_Found]:
    """The paths of the mappings that hold named tensors, with these, and the names of what else is in them."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), content)]
    seen: Counter[int] = Counter()
    while waiting:
        path, part = waiting.pop(0)
        if not isinstance(part, Mapping) or seen[id(part)] >= _MOST_NAMES or "param_groups" in part:
            continue
        seen[id(part)] += 1
        entries = {key: value for key, value in part.items() if isinstance(key, str)}
        inner = [((*path, key), value) for key, value in entries.items() if isinstance(value, Mapping) and value]
        tensors = {key: value for key, value in entries.items() if isinstance(value, Tensor)}
        whole = not inner or any("." in key for key in tensors)
        if whole and any(tensor.ndim for tensor in tensors.values()):
            yield path, tensors, tuple(key for key in entries if key not in tensors)
        if len(path) < _DEEPEST:
            waiting += inner


def _could_be_a_network(tensors: Mapping[str, Tensor]) -> bool:
    """Whether there is a matrix or a filter among them: states of random numbers and the like are lists."""
    return any(tensor.ndim >= 2 for tensor in tensors.values())


def _group(
    path: tuple[str, ...], tensors: Mapping[str, Tensor], others: tuple[str, ...], exchanged: Mapping[str, str]
) -> WeightGroup:
    name = ".".join(path)
    kept = {key: tensor for key, tensor in tensors.items() if not _is_apart(key)} or dict(tensors)
    average = name in exchanged or _is_called_average(name) or "n_averaged" in tensors
    beside = (*(key for key in tensors if key not in kept), *others)
    return WeightGroup(name, without_prefix(kept), beside, average and name not in exchanged.values())


def _exchanged(content: object) -> dict[str, str]:
    """The name under which a library keeps an average in the weights' place, to the name of the weights themselves."""
    if not isinstance(content, Mapping) or "state_dict" not in content:
        return {}
    if "current_model_state" in content:
        return {"state_dict": "current_model_state"}
    meta = content.get("meta")
    mmengine = "message_hub" in content or (isinstance(meta, Mapping) and "mmengine_version" in meta)
    return {"state_dict": "ema_state_dict"} if mmengine and "ema_state_dict" in content else {}


def _place(group: WeightGroup) -> int:
    """Among the usual names; a name that is none of them comes last."""
    first = group.name.partition(".")[0]
    return WRAPPERS.index(first) if first in WRAPPERS else len(WRAPPERS)


def _is_called_average(name: str) -> bool:
    return not _AVERAGE.isdisjoint(re.split(r"[._\-]+", name.lower()))


def _is_apart(name: str) -> bool:
    """Whether a weight of this name is none of a network."""
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
    first, inside, _ = name.partition(".")
    return bool(_APART.fullmatch(first.lower())) if inside else first in _BESIDE


# ---- which of it is meant --------------------------------------------------------------------------------------------


class _Choice(Generic[Network]):
    """The groups of one file, and what they fit."""

    def __init__(self, groups: Sequence[WeightGroup], fits: Fits[Network], source: str, role: Role) -> None:
        other = "student" if role == "teacher" else "teacher"
        self.groups = sorted(groups, key=lambda group: group.is_of(other) and not group.is_of(role))
        self.fits, self.source, self.role, self.other = fits, source, role, other

    def usual(self) -> ChosenWeights[Network]:
        for group in self.groups:
            if found := self.fits(group.state):
                self._check_apart(group)
                return self._chosen(group, found)
            if (part := self._part_that_fits(group)) is not None:
                return part
        return self._chosen(self.groups[0], ())

    def named(self, weights: str) -> ChosenWeights[Network]:
        """Raises CistError if there are none of that name, or several."""
        wanted = weights.strip().strip(".")
        parts = [(part, group) for group in self.groups for part in _parts(group)]
        for candidates in ([(group, None) for group in self.groups], parts):
            found = [pair for pair in candidates if pair[0].name == wanted]
            found = found or [pair for pair in candidates if pair[0].name.endswith(f".{wanted}")]
            if len(found) > 1:
                names = [group.name for group, _ in found]
                raise CistError(f"{self.source} holds several weights called '{weights}'; say which: {_listed(names)}.")
            for group, whole in found:
                networks = self.fits(group.state)
                if not networks and (inner := self._part_that_fits(group)) is not None:
                    return inner
                return self._chosen(group, networks, whole)
        raise UnclearWeights(f"{self.source} holds no weights called '{weights}'; it holds {self.listing}.", self.names)

    @property
    def names(self) -> list[str]:
        return [group.name for group in self.groups if group.name]

    @property
    def listing(self) -> str:
        return "; ".join(group.described() for group in self.groups)

    def _part_that_fits(self, group: WeightGroup) -> ChosenWeights[Network] | None:
        """The part of a group that fits a network, if the rest is known to be none of it."""
        found: list[tuple[WeightGroup, Sequence[Network]]] = []
        for part in _parts(group):
            inside = any(part.name.startswith(f"{outer.name}.") for outer, _ in found)
            if not inside and (networks := self.fits(part.state)):
                found.append((part, networks))
        if not found:
            return None
        found.sort(key=lambda pair: self._rank(pair[0]))
        part, networks = found[0]
        if len(found) > 1 and self._rank(found[1][0]) == self._rank(part):
            raise UnclearWeights(
                f"{self.source} holds several networks: {'; '.join(each.described() for each, _ in found)}; name one "
                "with --weights (`weights=` in Python).",
                [each.name for each, _ in found],
            )
        known = {each.name for each, _ in found}
        foreign = [each for each in _rest(part, group) if each.name not in known and not _is_known_apart(each)]
        if foreign and not part.is_average and not any(part.is_of(role) for role in _ROLES):
            raise UnclearWeights(
                f"The weights under '{part.name}' in {self.source} fit a network by themselves, but beside them are "
                f"{'; '.join(each.described() for each in foreign)}, which may belong to it. If not, take the former "
                f"alone with --weights {part.name} (`weights=` in Python); else export the whole network as .onnx or "
                ".pt2.",
                [part.name],
            )
        return self._chosen(part, networks, group)

    def _rank(self, part: WeightGroup) -> tuple[bool, bool, bool]:
        return part.is_of(self.other) and not part.is_of(self.role), not part.is_average, not part.is_of(self.role)

    def _check_apart(self, group: WeightGroup) -> None:
        """Refuse to take one of several state dicts whose names do not say what they are to each other."""
        usual = _place(group) < len(WRAPPERS) or _is_known_apart(group)
        if not usual and not all(map(_is_known_apart, (each for each in self.groups if each is not group))):
            raise UnclearWeights(
                f"{self.source} holds several groups of weights: {self.listing}; name the one that is meant with "
                "--weights (`weights=` in Python).",
                self.names,
            )

    def _chosen(
        self, group: WeightGroup, networks: Sequence[Network], whole: WeightGroup | None = None
    ) -> ChosenWeights[Network]:
        """With what is beside it in the file, and beside it in the group that it is a part of."""
        home = group if whole is None else whole
        rest = [] if whole is None else [part.name for part in _rest(group, whole)]
        others = [*(each.name for each in self.groups if each is not home), *rest]
        choices = tuple(name for name in others if not _is_apart(f"{name.rpartition('.')[2]}."))
        beside = dict.fromkeys((*group.beside, *home.beside))
        return ChosenWeights(group, choices, (*others, *beside), networks, self.listing)


def _parts(group: WeightGroup) -> Iterator[WeightGroup]:
    """What is under each prefix of the names, the outer ones first."""
    inside: dict[str, dict[str, Tensor]] = {}
    for name, tensor in group.state.items():
        words = name.split(".")
        for depth in range(1, min(len(words), _DEEPEST_PREFIX + 1)):
            inside.setdefault(".".join(words[:depth]), {})[".".join(words[depth:])] = tensor
    for prefix in sorted(inside, key=lambda prefix: prefix.count(".")):
        kept = {name: tensor for name, tensor in inside[prefix].items() if not _is_apart(name)}
        if len(kept) > 1:
            average = group.is_average or _is_called_average(prefix) or "n_averaged" in inside[prefix]
            beside = tuple(f"{prefix}.{name}" for name in inside[prefix] if name not in kept)
            yield WeightGroup(_joined(group, prefix), without_prefix(kept), beside, average)


def _rest(part: WeightGroup, group: WeightGroup) -> list[WeightGroup]:
    """What is in a group beside a part of it, by how the names begin, to the depth of the part."""
    words = part.name.removeprefix(group.name).strip(".").split(".")
    rest: dict[str, dict[str, Tensor]] = {}
    for name, tensor in group.state.items():
        own = name.split(".")
        if own[: len(words)] != words:
            same = next((depth for depth, pair in enumerate(zip(own, words, strict=False)) if pair[0] != pair[1]), 0)
            rest.setdefault(".".join(own[: same + 1]), {})[name] = tensor
    return [WeightGroup(_joined(group, start), inside) for start, inside in rest.items()]


def _joined(group: WeightGroup, prefix: str) -> str:
    return f"{group.name}.{prefix}".strip(".")


def _is_known_apart(part: WeightGroup) -> bool:
    """Whether the name says that the weights belong to another network, or to none."""
    last = part.name.rpartition(".")[2]
    return _is_called_average(part.name) or any(part.is_of(role) for role in _ROLES) or _is_apart(f"{last}.")


def _listed(names: Sequence[str]) -> str:
    shown = [name or "weights without a name" for name in names[:_NAMES_SHOWN]]
    return ", ".join(shown) + (f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else "")
