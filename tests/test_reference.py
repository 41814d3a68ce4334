"""Whatever a user can call is in docs/reference.md: the code is asked, not a list."""

import argparse
import dataclasses
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import fmcluster
from fmcluster import errors
from fmcluster.cli.main import build_parser
from fmcluster.cli.registry import COMMANDS
from fmcluster.heads import list_heads, make_head
from fmcluster.heads.base import ClusterHead
from fmcluster.utils import errors as error_home

DOCS = Path(__file__).resolve().parents[1] / "docs"
PUBLIC = [name for name in fmcluster.__all__ if name != "__version__"]
CLASSES = [name for name in PUBLIC if inspect.isclass(getattr(fmcluster, name))]
BY_OTHER_PATHS = (
    "fmcluster.integrations:TopicClusterer",
    "fmcluster.labeling.robust:RobustClassifier",
    "fmcluster.functional.ot:SinkhornResult",
    "fmcluster.functional.metrics:evaluate",
    "fmcluster.functional.ot:sinkhorn",
)


@pytest.fixture(scope="module")
def page():
    return (DOCS / "reference.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sections(page):
    """The text under each heading of the page that is not deeper than the third level."""
    prose = re.sub(r"^```.*?^```$", lambda m: m[0].replace("\n#", "\n #"), page, flags=re.M | re.S)
    parts = re.split(r"^#{2,3} (.*)$", prose, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def own_members(cls):
    """Names of methods, properties and class-level attributes of `cls` that are ours to explain."""
    for name in dir(cls):
        owner = next((base for base in cls.__mro__ if name in vars(base)), None)
        if name.startswith("_") or owner is None or not owner.__module__.startswith("fmcluster"):
            continue
        value = inspect.getattr_static(cls, name)
        if callable(value) or isinstance(value, (property, classmethod, staticmethod)):
            yield name
        elif inspect.isdatadescriptor(value) or hasattr(value, "attrname"):
            yield name


def missing_of(cls, name, text):
    """What of a class its section does not show: members, arguments, fields."""
    short = name.rpartition(".")[2]
    wanted = [n for n in own_members(cls) if f"#### {short}.{n}\n" not in text]
    if dataclasses.is_dataclass(cls) or hasattr(cls, "get_params"):
        wanted += [n for n in inspect.signature(cls).parameters if not n.startswith("_")]
    return [n for n in wanted if not re.search(rf"^\|[^|]*`{n}`", text, re.M)]


def test_the_page_is_up_to_date(page, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    made = importlib.import_module("make_reference").build()
    assert page == made, "run: python docs/make_reference.py"


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_entry(name, sections):
    assert f"fmcluster.{name}(" in sections[name]


@pytest.mark.parametrize("name", CLASSES)
def test_every_member_of_a_public_class_is_shown(name, sections):
    assert missing_of(getattr(fmcluster, name), name, sections[name]) == []


def test_what_results_are_made_of_is_shown(sections):
    from fmcluster.labeling.propagate import propagate
    from fmcluster.result.result import Cluster

    assert missing_of(Cluster, "Cluster", sections["Cluster"]) == []
    returned = propagate.__annotations__["return"]
    cls = getattr(sys.modules[propagate.__module__], returned)
    assert missing_of(cls, returned, sections[returned]) == []


@pytest.mark.parametrize("where", BY_OTHER_PATHS)
def test_names_beyond_the_package_have_an_entry(where, sections):
    module, name = where.split(":")
    value = getattr(importlib.import_module(module), name)
    found = [h for h in sections if h == name or h.endswith(f".{name}")]
    assert len(found) == 1
    if inspect.isclass(value):
        assert missing_of(value, name, sections[found[0]]) == []


@pytest.mark.parametrize("name", [p.stem for p in Path(fmcluster.__path__[0]).glob("*.py")])
def test_names_of_the_modules_beside_the_package_have_an_entry(name, page):
    module = importlib.import_module("fmcluster" if name == "__init__" else f"fmcluster.{name}")
    for public in getattr(module, "__all__", []) if name != "__main__" else []:
        shown = rf"^### {public}$|^\| `{public}`"
        assert public == "__version__" or re.search(shown, page, re.M), public


@pytest.mark.parametrize("name", list_heads())
def test_a_head_has_its_arguments_defaults_equation_and_attributes(name, sections):
    cls = type(make_head(name))
    text = sections[name]
    for argument, parameter in inspect.signature(cls).parameters.items():
        row = re.search(rf"^\|[^|]*`{argument}`[^|]*\|.*$", text, re.M)
        assert row, f"{name}: {argument}"
        assert row[0].rstrip("| ").rpartition("|")[2].strip(), f"{name}: {argument} has no meaning"
        default = parameter.default
        written = f'"{default}"' if isinstance(default, str) else repr(default)
        assert written in text, f"{name}: {argument}={default!r}"
    elsewhere = re.search(r"equation: see \[(\w+)\]", text)
    assert re.search(r"\$`|```math", sections[elsewhere[1]] if elsewhere else text)
    inherited = set(dir(ClusterHead))
    for member in own_members(cls):
        assert member in inherited or f"`{member}" in text, f"{name}.{member}"


def test_heads_of_one_interface(sections):
    assert missing_of(ClusterHead, "ClusterHead", sections["ClusterHead"]) == []
    for attribute in ("labels_", "n_clusters_", "cluster_prior_", "n_features_in_"):
        assert f"| `{attribute}`" in sections["ClusterHead"]


def test_every_exception_is_listed(sections):
    raised = {
        name
        for name, value in vars(error_home).items()
        if inspect.isclass(value) and issubclass(value, BaseException)
    }
    assert raised == set(errors.__all__)
    assert all(f"| `{name}` |" in sections["Errors"] for name in raised)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_is_listed(command, sections):
    actions = build_parser(command)._actions
    sub = next(a for a in actions if isinstance(a, argparse._SubParsersAction)).choices[command]
    text = sections["Commands"] + sections[f"fmcluster {command}"]
    assert str(sub.epilog).removeprefix("example: ") in text
    for action in sub._actions:
        for option in set(action.option_strings) - {"-h", "--help"}:
            assert re.search(rf"^\| `[^`]*{option}\b", text, re.M), option


def test_no_markup_of_another_language_is_left(page):
    assert not re.search(r":math:|\.\. math::|:func:|:class:|^-{3,}$", page, re.M)
    assert page.count("```") % 2 == 0


def test_links_inside_the_page_lead_to_headings(page, monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    targets = {t for _, _, t in importlib.import_module("reference_tools.contents").anchors(page)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= targets


def test_docstrings_become_markdown(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    docstrings = importlib.import_module("reference_tools.docstrings")
    text = (
        "Maximise :math:`x_i` as in ``f`` of :func:`g`:\n\n.. math:: a\n          + b\n\n"
        "Done::\n\n    f(x)"
    )
    assert docstrings.as_markdown(text) == (
        "Maximise $`x_i`$ as in `f` of `g`:\n\n```math\na\n+ b\n```\n\n"
        "Done:\n\n```python\nf(x)\n```\n"
    )
    doc = docstrings.Docstring(
        "Do it.\n\nAt once.\n\nParameters\n----------\na, b : int, optional\n    Both\n"
        "    of them.\nc\n    | or.\n\nReturns\n-------\nfloat\n    The sum.\n"
    )
    assert (doc.summary, doc.text) == ("Do it.", "At once.")
    first, second = doc.section("Parameters")
    assert (first.name, first.type, first.text) == ("a, b", "int, optional", "Both\nof them.")
    assert docstrings.cell(second.text) == "\\| or."
    assert [f.name for f in doc.section("Returns")] == ["float"]
    assert docstrings.table(["a", "b"], [["1", ""], ["2", ""]]) == "| a |\n|---|\n| 1 |\n| 2 |"
