"""What makes a user's own encoder object what it is: weights, settings and the code of `encode`.

Two settings of one class must not share a store. What cannot be told apart by looking (a client, a
lock) is named, so that nobody takes the fingerprint for more than it is.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import enum
import inspect
import os
import sysconfig
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fmcluster.embedding.data.values import as_array, is_tensor
from fmcluster.utils.files import digest_bytes, stable_hash

_PLAIN = (str, int, float, bool, type(None))
# Objects inside objects: deeper ones are the machinery of libraries, not settings.
MOST_DEPTH = 4
# Attributes that libraries keep on a module: covered by its weights, or not about its output.
_NOT_SETTINGS = frozenset({"training", "calls", "fingerprint", "spec"})


def identity_of(encoder: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the fingerprint of an object, and the attributes that it cannot cover.

    An attribute `fingerprint` (dict or str) of its own is taken at its word.
    """
    own = getattr(encoder, "fingerprint", None)
    if isinstance(own, (dict, str)):
        return {"own": own}, []
    unknown: list[str] = []
    found: dict[str, Any] = {}
    if (weights := _weights(encoder)) is not None:
        found["weights"] = weights
    functions = list(_functions(encoder))
    skipped = {name for function in functions for name in _assigned(function)} | _NOT_SETTINGS
    settings = {
        name: _described(value, name, unknown, 0)
        for name, value in sorted(_attributes(encoder).items())
        if name not in skipped
        and (weights is None or isinstance(value, _PLAIN) or name == "prompts")
    }
    limit = getattr(encoder, "max_seq_length", None)
    if isinstance(limit, int):
        settings["max_seq_length"] = limit
    if settings:
        found["settings"] = stable_hash(settings)
    if code := [text for function in functions if (text := _code(function))]:
        found["code"] = stable_hash(code)
    return found, unknown


def _attributes(value: Any) -> dict[str, Any]:
    slots = {
        name: getattr(value, name)
        for kind in type(value).__mro__
        for name in _names(kind.__dict__.get("__slots__", ()))
        if hasattr(value, name) and not name.startswith("__")
    }
    return {**slots, **getattr(value, "__dict__", {})}


def _names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _weights(value: Any) -> str | None:
    """Return the digest of a torch module's weights and layout, or None."""
    state = getattr(value, "state_dict", None)
    if not callable(state):
        return None
    parts = []
    for key, tensor in state().items():
        if is_tensor(tensor):
            array = np.ascontiguousarray(as_array(tensor.float()))
            parts.append((key, list(array.shape), digest_bytes(array.tobytes())))
    return stable_hash(parts)


def _described(value: Any, name: str, unknown: list[str], depth: int) -> Any:
    """Return a JSON-able description of a setting; what has none is added to `unknown`."""
    if isinstance(value, (*_PLAIN, np.generic, enum.Enum, os.PathLike, complex, bytes, range)):
        return repr(value)
    if type(value).__module__.startswith("torch") and not callable(value) and not is_tensor(value):
        return str(value)
    if isinstance(value, np.ndarray) or is_tensor(value):
        array = np.ascontiguousarray(as_array(value))
        if array.dtype.kind != "O":
            return [str(array.dtype), list(array.shape), digest_bytes(array.tobytes())]
    if isinstance(value, (Mapping, list, tuple, set, frozenset)) and depth < MOST_DEPTH:
        return _contents(value, name, unknown, depth + 1)
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType)):
        return getattr(value, "__qualname__", value.__name__)
    if isinstance(value, (types.FunctionType, types.MethodType)):
        return _code(getattr(value, "__func__", value)) or value.__qualname__
    if (weights := _weights(value)) is not None:
        return [repr(value), weights]
    if depth < MOST_DEPTH and (inside := _attributes(value)):
        described = {
            key: _described(part, name, unknown, depth + 1) for key, part in inside.items()
        }
        return [type(value).__qualname__, described]
    if name not in unknown:
        unknown.append(name)
    return type(value).__qualname__


def _contents(value: Any, name: str, unknown: list[str], depth: int) -> Any:
    """Return the descriptions of what a collection holds; of a set in no order."""
    if isinstance(value, Mapping):
        pairs = [[repr(k), _described(v, name, unknown, depth)] for k, v in value.items()]
        return sorted(pairs, key=lambda pair: pair[0])
    parts = [_described(part, name, unknown, depth) for part in value]
    return parts if isinstance(value, (list, tuple)) else sorted(map(stable_hash, parts))


def _functions(encoder: Any) -> Iterator[types.FunctionType]:
    """Yield `encode` and the functions of its class and module that it reaches by name."""
    seen: set[str] = set()
    names = ["encode"]
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        function = inspect.getattr_static(type(encoder), name, None)
        function = getattr(function, "__func__", getattr(function, "fget", None) or function)
        if function is None:
            encode = inspect.getattr_static(type(encoder), "encode", None)
            function = getattr(encode, "__globals__", {}).get(name)
        if isinstance(function, types.FunctionType) and not _of_library(function):
            yield function
            names += [each for each in function.__code__.co_names if each not in seen]


def _of_library(function: types.FunctionType) -> bool:
    """Return whether an installed package holds it: its own name and version stand for it."""
    file = function.__code__.co_filename
    roots = {sysconfig.get_paths()[key] for key in ("purelib", "platlib", "stdlib")}
    return any(file.startswith(root) for root in roots)


def _assigned(function: types.FunctionType) -> set[str]:
    """Return attributes that a function sets while it runs: counters and caches, no settings."""
    return {
        str(step.argval) for step in dis.get_instructions(function) if step.opname == "STORE_ATTR"
    }


def _code(function: Any) -> str:
    """Return a function's source without comments and layout, or its byte code."""
    if not isinstance(function, types.FunctionType):
        return ""
    with contextlib.suppress(OSError, TypeError, SyntaxError, ValueError):
        return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
    return _byte_code(function.__code__)


def _byte_code(code: types.CodeType) -> str:
    constants = [
        _byte_code(each) if isinstance(each, types.CodeType) else repr(each)
        for each in code.co_consts
    ]
    return stable_hash([code.co_code.hex(), constants, list(code.co_names)])
