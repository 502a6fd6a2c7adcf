"""What holds for every file of tests: it stands alone, and it knows of the project what anybody may use."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
OWN = ("cist_core", "app", "pages", "benchmarks")
# Of Python, PyTorch, Streamlit, IPython and psutil, where there is no other way to it.
FOREIGN = {"_exit", "_replace", "_forward_hooks", "_forward_pre_hooks", "_is_replica", "_neg_view", "_set_option"}
FOREIGN |= {"_psplatform", "_repr_html_", "_repr_mimebundle_"}  # the last two are what a notebook asks for


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in FOREIGN


def faults(tree: ast.Module) -> list[str]:
    """Tests imported from other tests; private names that are imported, read or replaced."""
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names):
                parts = [*module.split("."), *(alias.name for alias in names)]
                found += [f"import of {part}" for part in parts if part.startswith("test_")]
                found += [f"import of {part}" for part in parts if module.startswith(OWN) and is_private(part)]
            case ast.Import(names=names):
                parts = [part for alias in names for part in alias.name.split(".")]
                found += [f"import of {part}" for part in parts if part.startswith("test_")]
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name) if is_private(name):
                found.append(ast.unparse(node))
            case ast.Call(func=ast.Attribute(attr="setattr" | "delattr"), args=arguments):
                texts = [each.value for each in arguments[:2] if isinstance(each, ast.Constant)]
                found += [text for text in texts if isinstance(text, str) and is_private(text.rpartition(".")[2])]
    return found


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_a_test_imports_no_other_and_touches_nothing_private(path: Path) -> None:
    assert faults(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "from tests.runs.test_store import end",
        "from tests.runs import test_store",
        "import tests.runs.test_store",
        "from cist_core.cards import _read",
        "from cist_core._inner import card",
        "store._read('')",
        "monkeypatch.setattr(module, '_read', None)",
        "monkeypatch.setattr('cist_core.cards._read', None)",
    ],
)
def test_what_is_not_allowed_is_found(code: str) -> None:
    assert len(faults(ast.parse(code))) == 1
