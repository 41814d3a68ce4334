"""What is public: names, members and result types, collected from the code."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

import fmcluster
from fmcluster.heads.base import ClusterHead

# Their ``__all__`` is documented elsewhere on the page (heads, commands), or is for developers.
APART = ("fmcluster.cli", "fmcluster.bench", "fmcluster.heads", "fmcluster.errors")
# Pure mathematics that users call: all that is defined there.
MATHEMATICS = ("metrics", "ot", "calibration")


def package_names() -> dict[str, Any]:
    """Return what `fmcluster.__all__` names, but the version."""
    return {n: getattr(fmcluster, n) for n in fmcluster.__all__ if n != "__version__"}


def room_names() -> dict[str, Any]:
    """Return what the rooms' ``__all__`` name beyond the package's own."""
    names: dict[str, Any] = {}
    for module in _public_modules():
        names |= {name: getattr(module, name) for name in module.__all__}
    names |= {"TrainOptions": _train_options()}
    own = list(package_names().values())
    kept = {n: v for n, v in names.items() if callable(v) and not any(v is each for each in own)}
    return dict(sorted(kept.items(), key=lambda item: (_rank(item[1]), item[0].lower())))


def mathematics() -> dict[str, Any]:
    """Return the functional modules that users call, and what is public in them."""
    names: dict[str, Any] = {}
    for short in MATHEMATICS:
        module = importlib.import_module(f"fmcluster.functional.{short}")
        names[f"functional.{short}"] = module
        names |= {f"{short}.{name}": value for name, value in _defined(module)}
    return names


def errors() -> dict[str, type[BaseException]]:
    """Return the exceptions and warnings of `fmcluster.errors`."""
    module = importlib.import_module("fmcluster.errors")
    return {name: getattr(module, name) for name in module.__all__}


def returned_types(values: Iterable[Any], known: Iterable[Any]) -> dict[str, type]:
    """Return the classes of ours that some functions and methods return and nothing names yet."""
    found: dict[str, type] = {}
    seen = list(known)
    waiting = [value for value in values if callable(value)]
    while waiting:
        value = waiting.pop(0)
        calls = [v for _, v in members(value)] if inspect.isclass(value) else [value]
        for call in calls:
            for each in _classes_in(call):
                if not any(each is s for s in seen):
                    seen.append(each)
                    found[each.__name__] = each
                    waiting.append(each)
    return found


def members(cls: type) -> list[tuple[str, Any]]:
    """Return the public methods and properties that our own classes give `cls`, by name."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.split(".")[0] != "fmcluster":
            continue
        for name, value in vars(base).items():
            if not name.startswith("_") and _is_member(value):
                found[name] = inspect.getattr_static(cls, name)
    return list(found.items())


def _is_member(value: Any) -> bool:
    kinds = (classmethod, staticmethod, property)
    return isinstance(value, kinds) or inspect.isfunction(value) or hasattr(value, "attrname")


def _public_modules() -> Iterator[ModuleType]:
    """Yield the modules and packages of two levels that say what of them is public."""
    for found in pkgutil.iter_modules(fmcluster.__path__, "fmcluster."):
        if found.name in APART or found.name.endswith("__main__"):
            continue
        module = importlib.import_module(found.name)
        if hasattr(module, "__all__"):
            yield module
        if found.ispkg:
            for inner in pkgutil.iter_modules(module.__path__, f"{found.name}."):
                package = importlib.import_module(inner.name) if inner.ispkg else None
                if package is not None and hasattr(package, "__all__"):
                    yield package


def _defined(module: ModuleType) -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    ]


def _classes_in(call: Any) -> Iterator[type]:
    """Yield the classes of ours that the return annotation of a call names."""
    function = getattr(call, "__func__", None) or getattr(call, "fget", None) or call
    function = getattr(function, "func", function)
    note = str(getattr(function, "__annotations__", {}).get("return", ""))
    for word in re.findall(r"[A-Z]\w+", note):
        value = getattr(function, "__globals__", {}).get(word)
        ours = inspect.isclass(value) and value.__module__.startswith("fmcluster")
        if ours and not issubclass(value, (ClusterHead, BaseException)):
            yield value


def _train_options() -> type:
    """Return the run-time options that trained heads take."""
    return importlib.import_module("fmcluster.heads.training.objective").TrainOptions


def _rank(value: Any) -> str:
    return home(value).rpartition(".")[0]


def home(value: Any) -> str:
    """Return the path that a public name is imported from."""
    name, module = value.__name__, value.__module__
    parts = module.split(".")
    for depth in range(1, len(parts)):
        package = ".".join(parts[:depth])
        if name in getattr(sys.modules.get(package), "__all__", ()):
            return f"{package}.{name}"
    return f"{module}.{name}"
