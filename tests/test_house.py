"""The house rules that can be counted: sizes, imports, and tests that mirror the rooms."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("flows", "tasks", "clipcore", "infra")

MODULE_LINES = 400  # at most, in the rooms and in their tests
MEDIAN_MODULE_LINES = 120  # of the rooms
FUNCTION_LINES = 25  # with the docstring ...
SHARE_OF_FUNCTIONS = 0.9  # ... of so many
FLAT_FILES = 20  # in tasks/: the lines of a flow
README_LINES = 140

INNER_IMPORTS = {  # who may import inside functions, and why
    "tasks/tracking": "MLflow takes seconds to import, and most commands never need it",
    "clipcore/published.py": "open_clip takes seconds to import, and most processes never need it",
    "clipcore/libra/gguf_file.py": "transformers takes seconds to import, and is an extra",
    "infra/prefect_process.py": "it ends with who started it, also while it imports",
    "infra/servers.py": "psycopg2 is an extra",
    "infra/offline.py": "Ray reads the switches when it is imported, so they are set before",
}


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def num_lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


# --- sizes ----------------------------------------------------------------------------------------


def test_no_module_is_long() -> None:
    long = {name_of(path): num_lines(path) for path in modules(*ROOMS, "tests")}
    assert {name: lines for name, lines in long.items() if lines > MODULE_LINES} == {}


def test_most_modules_are_short() -> None:
    assert median(num_lines(path) for path in modules(*ROOMS)) <= MEDIAN_MODULE_LINES


def test_nearly_all_functions_are_short() -> None:
    lines = [
        (node.end_lineno or 0) - node.lineno + 1
        for path in modules(*ROOMS)
        for node in functions(path)
    ]
    assert sum(count <= FUNCTION_LINES for count in lines) / len(lines) >= SHARE_OF_FUNCTIONS


def test_tasks_has_few_flat_files() -> None:
    flat = [path.stem for path in (ROOT / "tasks").glob("*.py") if path.stem != "__init__"]
    assert len(flat) <= FLAT_FILES, sorted(flat)


def test_the_readme_is_short() -> None:
    assert num_lines(ROOT / "README.md") <= README_LINES


# --- imports --------------------------------------------------------------------------------------


def imports_inside(path: Path) -> list[str]:
    return [
        f"{name_of(path)}:{inner.lineno}"
        for node in functions(path)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
    ]


def may_import_inside(path: Path) -> bool:
    return any((ROOT / name) in (path, *path.parents) for name in INNER_IMPORTS)


def test_imports_stand_at_the_top() -> None:
    found = [
        place
        for path in modules(*ROOMS)
        for place in imports_inside(path)
        if not may_import_inside(path)
    ]
    assert found == []


@pytest.mark.parametrize("name", INNER_IMPORTS)
def test_each_exception_is_needed(name: str) -> None:
    paths = [path for path in modules(*ROOMS) if (ROOT / name) in (path, *path.parents)]
    assert any(imports_inside(path) for path in paths)


# --- tests mirror the rooms -----------------------------------------------------------------------


def is_module(path: Path) -> bool:
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def test_each_test_file_has_its_module() -> None:
    """`tests/<room>/test_x.py` tests `<room>/x`; `tests/<room>/x/test_*.py` do when one is long.

    Files right in `tests/` test the project as a whole, or a module beside them.
    """
    lost = []
    for room in ROOMS:
        for path in sorted((ROOT / "tests" / room).rglob("test_*.py")):
            folder = ROOT / path.parent.relative_to(ROOT / "tests")
            mirrored = is_module(folder / path.stem.removeprefix("test_"))
            of_one_module = folder.with_suffix(".py").is_file()
            if not (mirrored or of_one_module):
                lost.append(name_of(path))
    assert lost == []


def test_no_test_stands_outside_of_the_mirror() -> None:
    paths = (ROOT / "tests").rglob("test_*.py")
    rooms = {path.relative_to(ROOT / "tests").parts[0] for path in paths}
    assert {room for room in rooms if not room.endswith(".py")} <= set(ROOMS)
