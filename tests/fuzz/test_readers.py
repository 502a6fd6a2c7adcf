"""Whatever is done to a file, opening it gives a valid object or a sentence; `make fuzz` looks for longer."""

from __future__ import annotations

import importlib.util
import warnings
from functools import cache
from pathlib import Path

import pytest
from fuzz.mutations import KINDS, Edit, apply
from fuzz.targets import TARGETS, Target
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cist_core.errors import CistError

EDITS = st.lists(
    st.builds(
        Edit, st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 255), st.binary(max_size=12), st.integers(0, 9)
    ),
    min_size=1,
    max_size=4,
)
BY_NAME = {target.name: target for target in TARGETS}


@cache
def seeds(name: str) -> list[bytes]:
    target = BY_NAME[name]
    if target.needs and importlib.util.find_spec(target.needs) is None:
        pytest.skip(f"needs {target.needs}")
    return target.seeds()


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def open_(target: Target, content: bytes, folder: Path) -> str:
    """What came of it; anything but an object or a `CistError` is raised."""
    path = folder / f"file{target.ending}"
    path.unlink(missing_ok=True)  # not written over: another inode for each, as a memory map may still hold the last
    path.write_bytes(content)
    sentence = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the libraries say of damage
        try:
            target.open(path)
        except CistError as error:
            sentence = str(error) or "an error without a word"
    assert sentence != "an error without a word"
    return sentence


@pytest.mark.parametrize("name", BY_NAME)
def test_what_it_starts_from_is_read(name: str, here: Path) -> None:
    outcomes = [open_(BY_NAME[name], seed, here) for seed in seeds(name)]
    if name.startswith("checkpoint"):  # of no network in the zoo, and found out only then
        assert all("nearest" in outcome or "fit" in outcome for outcome in outcomes), outcomes
    else:
        assert outcomes == [""] * len(outcomes)


@pytest.mark.parametrize("name", BY_NAME)
@settings(max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_damage_is_told_in_a_sentence(name: str, data: st.DataObject, here: Path) -> None:
    start = data.draw(st.sampled_from(seeds(name)))
    open_(BY_NAME[name], apply(start, data.draw(EDITS)), here)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_hostile_file_is_told_in_a_sentence_by_whoever_takes_its_ending(name: str, here: Path) -> None:
    seeds(name)  # skips where its package is missing
    for content in BY_NAME[name].hostile:
        open_(BY_NAME[name], content, here)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_file_cut_short_is_told_in_a_sentence(name: str, here: Path) -> None:
    content = seeds(name)[0]
    for length in sorted({0, 1, 2, 3, 4, 7, *(len(content) * part // 12 for part in range(1, 12)), len(content) - 1}):
        open_(BY_NAME[name], content[:length], here)
