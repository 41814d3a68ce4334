"""Write docs/reference.md from the docstrings: ``python docs/make_reference.py``.

What is public is asked of the code: `fmcluster.__all__`, the ``__all__`` of the modules beside it
and of the rooms, the result types that those return, the registry of heads, the commands' parsers.
`reference_tools/` beside this file collects them and reads the docstrings.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from reference_tools.commands import command_entries
from reference_tools.contents import contents
from reference_tools.docstrings import Docstring, Field, as_markdown, cell, table
from reference_tools.names import (
    errors,
    home,
    mathematics,
    members,
    package_names,
    returned_types,
    room_names,
)

from fmcluster.heads import list_heads, make_head
from fmcluster.heads.base import ClusterHead

TARGET = Path(__file__).parent / "reference.md"
HEADS_CHAPTER = """## Heads

Each is made by `make_head(NAME, ...)` or from its class, takes `n_clusters` and `random_state`,
and has what [ClusterHead](#clusterhead) has. Which one for what: [which-head.md](which-head.md).
"""
COMMANDS_CHAPTER = """## Commands

Results go to stdout, progress and warnings to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
3 a check that was asked for did not hold, 130 interrupted.
"""
# Rooms whose modules say how a method works; their text stands with the first name of each.
EXPLAINED_ROOMS = ("fmcluster.labeling.", "fmcluster.calibration.")
ONE_LINE = 90  # characters of a call that is not broken into lines


# -- how it is written --------------------------------------------------------------------------


def call(name: str, value: Any, *, skip: tuple[str, ...] = ()) -> str:
    """Return a call without type names, one argument a line where it is long."""
    try:
        parameters = list(inspect.signature(value).parameters.values())
    except (TypeError, ValueError):
        return f"```python\n{name}()\n```"
    if [p.name for p in parameters] == ["args", "kwargs"]:  # a protocol: nobody calls it
        return f"```python\n{name}\n```"
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters if p.name not in skip]
    bare = [p.replace(default=_Shown(shown(p.default))) if _has_default(p) else p for p in bare]
    text = str(inspect.Signature(bare))
    if len(name + text) > ONE_LINE:
        inner = re.sub(r"\)$", "", text[1:])
        text = "(\n    " + ",\n    ".join(_split(inner)) + ",\n)"
    return f"```python\n{name}{text}\n```"


class _Shown:
    """A default value as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _has_default(parameter: inspect.Parameter) -> bool:
    return parameter.default is not inspect.Parameter.empty


def _split(text: str) -> list[str]:
    """Split the arguments of a call at its own commas."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()]


def shown(default: Any) -> str:
    """Return a default value as one would write it."""
    if default is inspect.Parameter.empty:
        return ""
    if inspect.isclass(default) or callable(default):
        return default.__name__
    text = repr(default)
    if isinstance(default, str) and '"' not in text:
        text = f'"{default}"'
    return "..." if text.startswith("<") else text


def parameters_table(
    value: Any, fields: list[Field], *, skip: tuple[str, ...] = (), title: str = "Parameters"
) -> str:
    """Return a table of arguments: type, default and meaning."""
    try:
        signature = inspect.signature(value).parameters
    except (TypeError, ValueError):
        signature = {}
    if not fields:
        return ""
    rows = []
    for field in fields:
        names = [name.strip().lstrip("*") for name in field.name.split(",")]
        if all(name in skip for name in names):
            continue
        given = [shown(signature[n].default) for n in names if n in signature]
        default = given[0] if len(set(given)) == 1 else ", ".join(given)
        label = ", ".join(f"`{name}`" for name in names)
        rows.append([label, cell(field.type), f"`{default}`" if default else "", cell(field.text)])
    return table([title[:-1].lower(), "type", "default", "meaning"], rows)


def fields_table(fields: list[Field], title: str) -> str:
    """Return a table of attributes: type and meaning."""
    if not fields:
        return ""
    rows = [
        [", ".join(f"`{n.strip()}`" for n in f.name.split(",")), cell(f.type), cell(f.text)]
        for f in fields
    ]
    return table([title, "type", "meaning"], rows)


def listing(word: str, fields: list[Field]) -> str:
    """Return what is returned or raised, as a list."""
    lines = []
    for field in fields:
        label = " : ".join(f"`{each}`" for each in (field.name, field.type) if each)
        prose = " : ".join(each for each in (field.name, field.type) if each)
        text = as_markdown(field.text or prose, flat=True)
        lines.append(f"- {label}: {text}" if field.text else f"- {text}")
    return f"{word}\n\n" + "\n".join(lines) if lines else ""


def body(value: Any, about: str = "") -> list[str]:
    """Return the parts of a docstring after its call."""
    doc = Docstring(inspect.getdoc(value) or "")
    return [
        as_markdown(doc.summary),
        as_markdown(doc.text),
        about,
        parameters_table(value, doc.section("Parameters")),
        listing("Returns", doc.section("Returns")),
        listing("Yields", doc.section("Yields")),
        listing("Raises", doc.section("Raises")),
        as_markdown(doc.prose("Notes")),
        example(doc.prose("Examples")),
    ]


def explanation(value: Any, explained: set[str]) -> str:
    """Return the text of a method's module with the first name of it, where users need it."""
    module = getattr(value, "__module__", "")
    if not module.startswith(EXPLAINED_ROOMS) or module in explained:
        return ""
    explained.add(module)
    return as_markdown((inspect.getdoc(sys.modules[module]) or "").partition("\n\n")[2])


def example(text: str) -> str:
    """Return examples as a block of code."""
    text = re.sub(r"^::\s*\n", "", text.strip("\n"))
    return f"```python\n{inspect.cleandoc(text)}\n```" if text else ""


def entry(name: str, value: Any, explained: set[str], *, level: int = 3) -> str:
    """Return one public name: its call, its docstring and, of a class, its members."""
    head = f"{'#' * level} {name}\n\n"
    if inspect.ismodule(value):
        return head + as_markdown(inspect.getdoc(value) or "") + "\n"
    if inspect.isclass(value):
        return head + class_entry(name, value, level, explanation(value, explained))
    about = explanation(value, explained)
    return head + _join([call(home(value), value), *body(value, about)]) + "\n"


def class_entry(name: str, cls: type, level: int, about: str) -> str:
    """Return a class: what makes it, its attributes, properties and methods."""
    doc = Docstring(inspect.getdoc(cls) or "")
    attributes = doc.section("Attributes")
    listed = {n.strip() for field in attributes for n in field.name.split(",")}
    own = dict(members(cls))
    properties = [(n, v) for n, v in own.items() if not _is_method(v) and n not in listed]
    attributes = attributes + [
        Field(n, _annotation(v), (inspect.getdoc(v) or "").split("\n\n")[0]) for n, v in properties
    ]
    known = {field for f in attributes for field in (n.strip() for n in f.name.split(","))}
    if dataclasses.is_dataclass(cls):
        documented = {n for f in doc.section("Parameters") for n in f.name.split(", ")}
        attributes += [
            Field(f.name, f"{f.type}", "")
            for f in dataclasses.fields(cls)
            if f.name not in known | documented and not f.name.startswith("_")
        ]
    hidden = tuple(n for n in inspect.signature(cls).parameters if n.startswith("_"))
    parts = [
        call(home(cls), cls, skip=hidden),
        *body(cls, about),
        fields_table(attributes, "attribute"),
    ]
    methods = [(n, v) for n, v in own.items() if _is_method(v)]
    text = _join(parts) + "\n"
    short = name.rpartition(".")[2]
    for method, value in methods:
        function = getattr(value, "__func__", value)
        written = getattr(cls, method)
        first = () if isinstance(value, (classmethod, staticmethod)) else ("self",)
        title = f"\n{'#' * (level + 1)} {short}.{method}\n\n"
        text += (
            title + _join([call(f"{short}.{method}", written, skip=first), *body(function)]) + "\n"
        )
    return text


def _is_method(value: Any) -> bool:
    return isinstance(value, (classmethod, staticmethod)) or inspect.isfunction(value)


def _annotation(value: Any) -> str:
    getter: Callable[..., Any] = getattr(value, "fget", None) or value.func
    return readable_type(str(getter.__annotations__.get("return", "")))


def readable_type(text: str) -> str:
    """Return an annotation in the words of the docstrings."""
    return re.sub(r"NDArray\[(?:np\.)?(\w+)\]", r"array of \1", text).replace(
        "array of Any", "array"
    )


def _join(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip("\n") for part in parts if part and part.strip())


# -- heads ----------------------------------------------------------------------------------------


def inherited_fields(cls: type, section: str) -> list[Field]:
    """Return a section's fields of a class and of its bases, its own words first."""
    found: dict[str, Field] = {}
    for base in cls.__mro__:
        if base.__module__.split(".")[0] == "fmcluster":
            for field in Docstring(inspect.cleandoc(base.__doc__ or "")).section(section):
                for name in (n.strip() for n in field.name.split(",")):
                    found.setdefault(name, Field(name, field.type, field.text))
    return list(found.values())


def head_parameters(cls: type) -> list[Field]:
    """Return what is documented of a head's arguments, in the order of its call."""
    known = {field.name: field for field in inherited_fields(cls, "Parameters")}
    fields: list[Field] = []
    for name in inspect.signature(cls).parameters:
        field = known.get(name, Field(name, "", ""))
        last = fields[-1] if fields else field
        if field.text and (last.type, last.text) == (field.type, field.text) and fields:
            fields[-1] = Field(f"{last.name}, {name}", field.type, field.text)
        else:
            fields.append(field)
    return fields


def _head_method(name: str, value: Any) -> str:
    written = call(f"head.{name}", getattr(ClusterHead, name), skip=("self",))
    return f"#### ClusterHead.{name}\n\n{_join([written, *body(value)])}\n"


def head_entry(name: str, seen: dict[str, str]) -> str:
    """Return one head: its call, its method with the equation, arguments and attributes."""
    cls = type(make_head(name))
    doc = Docstring(inspect.getdoc(cls) or "")
    shared = {f.name for f in inherited_fields(ClusterHead, "Attributes")}
    attributes = [f for f in inherited_fields(cls, "Attributes") if f.name not in shared]
    common = {n for n, _ in members(ClusterHead)}
    own = [(n, v) for n, v in members(cls) if n not in common]
    listed = {f.name for f in attributes}
    attributes += [
        Field(n, _annotation(v), (inspect.getdoc(v) or "").split("\n\n")[0])
        for n, v in own
        if not _is_method(v) and n not in listed
    ]
    summary = doc.summary
    if cls.__module__ in seen:
        method = (
            f"The method and its equation: see [{seen[cls.__module__]}](#{seen[cls.__module__]})."
        )
    else:
        method = as_markdown(inspect.cleandoc(sys.modules[cls.__module__].__doc__ or ""))
        seen[cls.__module__] = name
        summary = ""  # the module says it
    parts = [
        f"### {name}",
        call(f"fmcluster.heads.{cls.__name__}", cls),
        as_markdown(summary),
        method,
        as_markdown(doc.text),
        parameters_table(cls, head_parameters(cls)),
        fields_table(attributes, "fitted attribute"),
    ]
    for member, value in own:
        if _is_method(value):
            summary = (inspect.getdoc(getattr(cls, member)) or "").split("\n\n")[0]
            parts.append(f"- `{member}{_arguments(value)}`: {as_markdown(summary, flat=True)}")
    parts.append(example(doc.prose("Examples")))
    return _join(parts) + "\n"


def _arguments(value: Any) -> str:
    return re.sub(r"```(python)?\n?", "", call("", value, skip=("self",))).strip()


# -- the page -------------------------------------------------------------------------------------


def build() -> str:
    """Return the whole page."""
    package, rooms, maths = package_names(), room_names(), mathematics()
    known = [*package.values(), *rooms.values(), *maths.values()]
    types = returned_types(known, known)
    seen: dict[str, str] = {}
    explained: set[str] = set()
    base = Docstring(inspect.getdoc(ClusterHead) or "")
    shared = _join(
        [
            "### ClusterHead",
            as_markdown(base.summary),
            as_markdown(base.text),
            parameters_table(ClusterHead, head_parameters(ClusterHead)),
            fields_table(inherited_fields(ClusterHead, "Attributes"), "fitted attribute"),
        ]
    )
    chapters = [
        "## The package\n\nEach is `fmcluster.NAME`; nothing heavy is loaded before it is used.\n",
        *(entry(name, value, explained) for name, value in package.items()),
        "## Beyond the package\n\nIn the rooms, by the paths that the calls show.\n",
        *(entry(name, value, explained) for name, value in rooms.items()),
        "## What they return\n",
        *(entry(name, value, explained) for name, value in sorted(types.items())),
        "## Mathematics\n\nFunctions on arrays, `fmcluster.functional`.\n",
        *(entry(name, value, explained) for name, value in maths.items()),
        HEADS_CHAPTER,
        f"{shared}\n",
        *(_head_method(name, value) for name, value in members(ClusterHead) if _is_method(value)),
        *(head_entry(name, seen) for name in list_heads()),
        "## Errors\n\nIn `fmcluster.errors`; everything else is a `ValueError`, a `TypeError` or a "
        "`NotFittedError`.\n",
        table(
            ["name", "is a", "when"],
            [
                [f"`{n}`", f"`{e.__mro__[1].__name__}`", cell(inspect.getdoc(e) or "")]
                for n, e in errors().items()
            ],
        )
        + "\n",
        COMMANDS_CHAPTER,
        *command_entries(),
    ]
    page = re.sub(r"\n{3,}", "\n\n", "\n".join(chapters))
    top = "# Reference\n\nMade from the docstrings by `python docs/make_reference.py`.\n"
    return f"{top}\n{contents(page)}\n\n{page.rstrip()}\n"


if __name__ == "__main__":
    TARGET.write_text(build(), encoding="utf-8")
