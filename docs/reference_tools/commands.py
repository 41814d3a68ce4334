"""The commands, their arguments and options, from their parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from fmcluster.cli.main import build_parser
from fmcluster.cli.registry import COMMANDS
from reference_tools.docstrings import cell, table


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of one command."""
    actions = build_parser(name)._actions
    return next(a for a in actions if isinstance(a, argparse._SubParsersAction)).choices[name]


def arguments_table(parser: argparse.ArgumentParser) -> list[list[str]]:
    """Return the arguments and options of a command: usage, default, meaning."""
    return [
        [f"`{_usage(action)}`", _default(action), cell(action.help or "")]
        for action in parser._actions
        if not isinstance(action, argparse._HelpAction) and action.help is not argparse.SUPPRESS
    ]


def command_entries() -> Iterator[str]:
    """Yield the options that all commands take, then each command with its own."""
    parsers = {name: command_parser(name) for name in COMMANDS}
    rows = {name: arguments_table(parser) for name, parser in parsers.items()}
    first, *others = rows.values()
    common = [row for row in first if all(row in other for other in others)]
    header = ["argument", "default", "meaning"]
    yield f"Every command takes\n\n{table(header, common)}\n"
    for name, about in COMMANDS.items():
        parts = [
            f"### fmcluster {name}",
            f"{about[0].upper()}{about[1:]}.",
            f"```sh\n{(parsers[name].epilog or '').removeprefix('example: ')}\n```",
            table(header, [row for row in rows[name] if row not in common]),
        ]
        yield "\n\n".join(parts) + "\n"


def _usage(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    if not action.option_strings or action.nargs == 0:
        return names
    value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    given = action.metavar or action.dest.upper()
    return f"{names} {value or (given if isinstance(given, str) else ' '.join(given))}"


def _default(action: argparse.Action) -> str:
    if not action.option_strings:
        return "optional" if action.nargs in ("?", "*") else "required"
    if action.required:
        return "required"
    unsaid = action.default is None or action.default is False or action.default == []
    several = isinstance(action.default, (tuple, list))
    text = " ".join(map(str, action.default)) if several else action.default
    return "" if unsaid else f"`{text}`"
