"""The plan of rooms in docs/architecture.md, read off the code's own imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ablate"

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "plugins": {"errors"},
    "evaluated": set(),
    "described": {"evaluated"},
    "picture": set(),
    "task": {"errors", "described", "evaluated"},
    "runs": {"errors", "evaluated", "task"},
    "sheet": {"picture", "runs.panels"},
    "study": {"errors", "task", "runs.files"},
    "depth": {"errors", "evaluated", "picture", "plugins", "task", "runs"},
    "external": {"errors", "task", "runs", "study"},
    "results": {"errors", "task", "runs", "study"},
    "report": {
        "errors",
        "evaluated",
        "picture",
        "sheet",
        "task",
        "runs.panels",
        "runs.paths",
        "runs.states",
        "results",
        "study",
    },
    "engine": {"errors", "evaluated", "plugins", "task", "runs", "study", "results", "sheet"},
    "cli": {
        *("errors", "plugins", "task", "runs", "study", "external", "results", "report", "engine"),
        *("depth.alignment", "depth.config", "depth.data", "depth.logged", "depth.model.export"),
        *("depth.predict", "depth.scoring"),
    },
}
"""Room -> what it may import besides itself."""

HEAVY = ("torch", "timm", "pandas", "wandb", "torchvision", "duckdb", "PIL", "numpy")


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module of ours that a file imports, and whether that happens when the file is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.Lambda))
        for inner in ast.walk(node)
    }
    checking = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        at_import = id(node) not in late and id(node) not in checking
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "ablate":
                yield name.removeprefix("ablate").removeprefix("."), at_import


def test_no_room_imports_from_a_room_above_it() -> None:
    wrong = []
    for module, path in modules():
        room = module.split(".")[0]
        if room == "__init__":
            continue
        for name, _ in imports(path):
            if not name or name == "__version__" or name.split(".")[0] == room:
                continue
            if not any(name == allowed or name.startswith(allowed + ".") for allowed in ALLOWED[room]):
                wrong.append(f"{module} imports ablate.{name}")
    assert not wrong


def test_there_are_no_import_cycles() -> None:
    known = {module.removesuffix(".__init__") for module, _ in modules()}
    graph: dict[str, set[str]] = {}
    for module, path in modules():
        found = set()
        for name, at_import in imports(path):
            target = name if name in known else name.rpartition(".")[0]
            if at_import and target in known:
                found.add(target)
        graph[module.removesuffix(".__init__")] = found - {module.removesuffix(".__init__")}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_document_has_the_same_rooms() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = set(re.findall(r"^\| `ablate/(\w+)(?:/|\.py)` \|", text, re.MULTILINE))
    assert rooms == set(ALLOWED)


def test_files_and_functions_stay_readable() -> None:
    wrong = []
    for module, path in modules():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            wrong.append(f"{module}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60:
                wrong.append(f"{module}.{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines")
    assert not wrong


@pytest.mark.parametrize(
    "module",
    ["ablate.cli", "ablate.cli.app", "ablate.task", "ablate.study", "ablate.depth.config", "ablate.engine.launch"],
)
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = [name for name in HEAVY if name in ("torch", "timm", "pandas", "wandb", "torchvision")]
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_nothing_but_the_command_line() -> None:
    code = (
        "import sys\nfrom ablate.cli import main\nsys.argv = ['ablate', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"sys.stderr.write(str([name for name in {(*HEAVY, 'pydantic', 'ruamel')!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "Usage: ablate" in done.stdout
