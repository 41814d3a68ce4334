"""Rules of the house that no linter holds, read from the source itself."""

import ast
import functools
import graphlib
import importlib
import inspect
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import fmcluster
from fmcluster.cli.registry import COMMANDS

PACKAGE = Path(fmcluster.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]
# `make_head` hands on the arguments of whichever head; facades hand on those of one documented
# function each.
KEYWORD_TAKERS = {
    "make_head",
    "accelerator",
    "ClusterResult.predict",
    "ClusterResult.with_pipeline",
    "ClusterResult.predict_proba",
    "ClusterResult.report",
    "ClusterResult.push_to_hub",
    "ClusterPipeline.predict",
    "ClusterPipeline.predict_proba",
    "ClusterPipeline.predict_rows",
}


@functools.cache
def tree_of(path):
    """The parsed source of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(tree):
    """(qualified name, node) of every function, with the class it is in."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{node.name}.{inner.name}", inner


def is_public(name, path):
    parts = [*path.relative_to(PACKAGE).with_suffix("").parts, *name.split(".")]
    return not any(part.startswith("_") for part in parts)


def test_the_house_stands_as_planned():
    """Rooms that names tell of: no private module at the root, no crowded folder but `heads`."""
    at_root = [path.stem for path in PACKAGE.glob("*.py")]
    assert not [name for name in at_root if name.startswith("_") and not name.startswith("__")]
    for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]:
        modules = [path for path in folder.glob("*.py") if path.stem != "__init__"]
        if folder.name == "cli":  # a file per command, as the list of commands has them
            modules = [path for path in modules if path.stem not in COMMANDS]
        if folder.name not in ("heads", "__pycache__"):
            assert len(modules) <= 15, f"{folder.relative_to(PACKAGE)} has {len(modules)} files"


def test_nothing_is_left_at_the_root():
    """What a command made while one looked: a result stood there for a day."""
    root = PACKAGE.parent
    if shutil.which("git") is None or not (root / ".git").exists():
        pytest.skip("not a clone")
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    found = {path.split("/")[0] for path in listed.stdout.splitlines()}
    assert {name for name in found if not name.startswith(".")} == {
        "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "benchmarks", "docs",
        "fmcluster", "pyproject.toml", "recipes", "tests",
    }  # fmt: skip


def test_the_contract_is_eight_floors():
    text = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    layers = re.search(r"^layers = \[(.*?)^\]", text, re.S | re.M).group(1)
    floors = [line.strip(' ",') for line in layers.strip().splitlines()]
    rooms = {room.strip() for floor in floors for room in floor.split("|")}
    assert len(floors) == 8 and "ignore_imports" not in text
    packages = {f"fmcluster.{p.name}" for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    assert packages | {"fmcluster.api", "fmcluster.integrations"} == rooms


def imported(node):
    """Yield what a tree imports, in functions too; what only types need is left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.ImportFrom) and child.module:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
            yield child.module
        elif isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        yield from imported(child)


def test_no_modules_import_each_other_in_a_circle():
    def name_of(path):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    names = {name_of(path) for path in FILES}
    below = {}
    for path in FILES:
        tree = tree_of(path)
        found = names & set(imported(tree))
        # `from package import module` is of the module: the package is only where it lies.
        finer = {name.rpartition(".")[0] for name in found}
        below[name_of(path)] = (found - finer) - {name_of(path)}
    try:
        list(graphlib.TopologicalSorter(below).static_order())
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(error.args[1]))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_file_is_longer_than_400_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_prints_pickles_or_catches_everything(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "eval", "exec"), node.lineno
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            banned = {"pickle", "dill", "joblib", "marshal", "shelve"}
            if path.name == "threads.py":  # joblib counts cores there and does nothing else
                banned -= {"joblib"}
            assert not banned & set(names), node.lineno
        for keyword in getattr(node, "keywords", []):
            if keyword.arg == "allow_pickle":
                assert isinstance(keyword.value, ast.Constant)
                assert keyword.value.value is False


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_public_signatures_name_their_arguments(path):
    for name, node in functions(tree_of(path)):
        if node.args.kwarg and is_public(name, path) and name not in KEYWORD_TAKERS:
            pytest.fail(f"{name} in line {node.lineno} takes **{node.args.kwarg.arg}")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(tree_of(path))


@pytest.mark.parametrize("name", [n for n in fmcluster.__all__ if n != "__version__"])
def test_every_public_name_has_a_docstring(name):
    value = getattr(fmcluster, name)
    doc = inspect.getdoc(value)
    assert doc
    assert doc.splitlines()[0].endswith("."), "the first line is a sentence"


def documented(doc):
    """Names in the Parameters section of a numpydoc docstring."""
    lines = doc.splitlines()
    try:
        start = lines.index("Parameters") + 2
    except ValueError:
        return None
    names = []
    for line, after in zip(lines[start:], [*lines[start + 1 :], ""], strict=True):
        if set(after.strip()) == {"-"}:
            break
        if line and not line.startswith(" "):
            names += [part.strip().lstrip("*") for part in line.split(" : ")[0].split(",")]
    return names


@pytest.mark.parametrize("name", [n for n in fmcluster.__all__ if n != "__version__"])
def test_documented_parameters_are_those_of_the_signature(name):
    value = getattr(fmcluster, name)
    names = documented(inspect.getdoc(value) or "")
    if names is None:
        return
    target = value.__init__ if inspect.isclass(value) else value
    known = [p for p in inspect.signature(target).parameters if p != "self"]
    assert not set(names) - set(known), "documented, but not in the signature"


def test_every_head_documents_its_own_arguments():
    from fmcluster.heads import list_heads, make_head

    for name in list_heads():
        head = make_head(name)
        doc = "".join(
            cls.__doc__ or "" for cls in type(head).__mro__ if "fmcluster" in cls.__module__
        )
        assert doc, name
        shared = {"n_clusters", "random_state"}
        missing = [
            key for key in head.get_params(deep=False) if key not in doc and key not in shared
        ]
        assert not missing, f"{name} does not document {missing}"


def test_modules_import_by_their_own_names():
    for path in FILES:
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] == "__main__":
            continue
        importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))


def test_the_slowest_files_of_tests_are_files():
    """Their order is the suite's time: one that was renamed would be waited for at its end."""
    here = Path(__file__).parent
    (named,) = (
        node.value
        for node in ast.parse((here / "conftest.py").read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "SLOWEST"
    )
    assert set(ast.literal_eval(named)) <= {path.name for path in here.rglob("test_*.py")}
