"""JSON and YAML from files: each name once, no depth that Python cannot read, no file that never ends."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cist_core.cli import main
from cist_core.documents import parse_json, parse_yaml, read_document
from cist_core.errors import CistError
from cist_core.logits.class_maps import parse_class_map
from cist_core.temperature.rule import parse_rule

DEEP = ["[" * 200_000, '{"a":' * 200_000, "[" * 200_000 + "]" * 200_000]


@pytest.mark.parametrize("text", DEEP, ids=["lists", "objects", "closed"])
def test_what_nests_200_000_deep_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match="nests too deeply"):
        parse_json(text)


def test_yaml_that_nests_too_deeply_is_refused() -> None:
    with pytest.raises(ValueError, match="nests too deeply"):
        parse_yaml("[" * 5_000)


# Each line stands for ten of the one before.
TENFOLD = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 10)}]" for n in range(12))


@pytest.mark.parametrize("text", ["a: &a [*a]", TENFOLD], ids=["itself", "tenfold"])
def test_references_that_unfold_without_end_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unfold to more than 1,000,000 entries"):
        parse_yaml(text)


def test_a_name_that_stands_twice_is_refused_wherever_it_stands() -> None:
    for text in ('{"rho": 3, "rho": 4}', '[{"a": {"rho": 3, "rho": 3}}]', '{"rho": 3, "\\u0072ho": 4}'):
        with pytest.raises(ValueError, match="'rho' stands twice"):
            parse_json(text)
    for text in ("rho: 3\nrho: 4\n", "a:\n  - {rho: 3, 'rho': 4}\n"):
        with pytest.raises(ValueError, match="'rho' stands twice"):
            parse_yaml(text)


def test_an_object_of_many_names_is_refused_at_once() -> None:
    names = [*(f'"{number}": 0' for number in range(50_000)), '"49999": 1']
    began = time.process_time()
    with pytest.raises(ValueError, match="'49999' stands twice"):
        parse_json("{" + ", ".join(names) + "}")
    assert time.process_time() - began < 10  # looking at all names for each takes minutes


def test_what_says_each_thing_once_is_read_as_the_standard_readers_do() -> None:
    content = {"a": [1, 2.5, None, True], "b": {"a": "ä"}}
    assert parse_json(json.dumps(content)) == content
    assert parse_yaml("a: &x {p: 1, q: 2}\nb:\n  <<: *x\n  q: 3\n") == {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}


def test_merges_of_merges_and_keys_of_other_types_are_read() -> None:
    merged = "b: &b {a: 1}\nx:\n  y: &m {<<: *b, a: 2}\ntop: {<<: *m, c: 3}\n"
    assert parse_yaml(merged) == {"b": {"a": 1}, "x": {"y": {"a": 2}}, "top": {"a": 2, "c": 3}}
    assert parse_yaml("1: one\n'1': text\n") == {1: "one", "1": "text"}
    assert parse_yaml("") is None
    for text in ("1: one\n0x1: again\n", "x: {y: &m {a: 1, a: 2}}\ntop: {<<: *m}\n"):
        with pytest.raises(ValueError, match="stands twice"):
            parse_yaml(text)


def test_a_pipe_and_a_device_are_no_documents(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", Path("/dev/zero")):
        with pytest.raises(OSError, match="a pipe or a device"):
            read_document(path)
    with pytest.raises(OSError, match="directory"):
        read_document(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("deep.json", "[" * 200_000, "it nests too deeply"),
        ("deep.yaml", "{a: " * 5_000, "it nests too deeply"),
        ("twice.json", '{"seed": 1, "seed": 2}', "'seed' stands twice"),
        ("twice.yaml", "seed: 1\nseed: 2\n", "'seed' stands twice"),
        ("control.json", '{"data": {"name": "a\\u0000b"}}', "holds a control character"),
        ("half.json", '{"data": {"name": "a\\ud800b"}}', "holds a control character"),
    ],
)
def test_the_command_line_says_what_is_wrong_with_a_config(
    name: str, content: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text(content)
    assert main(["distill", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert name in said


def test_a_pipe_as_a_config_ends_with_a_sentence(tmp_path: Path) -> None:
    """In a process of its own: it used to wait for ever."""
    os.mkfifo(tmp_path / "config.json")
    command = [sys.executable, "-m", "cist_core", "distill", str(tmp_path / "config.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "a pipe or a device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_batch_of_2_31_images_ends_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "--preset", "demo", "--print"]) == 0
    config = json.loads(capsys.readouterr().out) | {"batch_size": 2**31 - 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["distill", str(tmp_path / "config.json"), "--run-dir", str(tmp_path / "run")]) == 2
    assert "Expected batch_size to be at most" in capsys.readouterr().err


def test_rules_class_maps_and_options_take_no_name_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "--preset", "demo", "--set", "epochs=1", "--set", "epochs=2", "--print"]) == 2
    assert "--set gives 'epochs' twice" in capsys.readouterr().err
    with pytest.raises(CistError, match="'rho' of the rule 'cist' stands twice"):
        parse_rule("cist:rho=3,rho=4")
    with pytest.raises(CistError, match="'car' stands twice"):
        parse_class_map('{"car": 1, "car": 2}')
