"""The command line: parsing, rendering and exit codes; each command is a file beside this one.

Results go to stdout, progress, warnings and errors to stderr. Exit codes: 0 done, 1 failed,
2 wrong usage or bad input, 3 a check that was asked for did not hold, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

from fmcluster.cli.registry import COMMANDS
from fmcluster.utils.version import __version__

# All but newline and tab; of the eight-bit ones, too, some terminals take orders.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Wrong usage is 2 in argparse; 130 is a shell's for Ctrl-C: 128 and the signal's 2.
DONE, FAILED, WRONG_USAGE, CHECK_FAILED, INTERRUPTED = 0, 1, 2, 3, 130


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line and a hint."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"error: {message}\nhint: see `{self.prog} --help`\n")
        raise SystemExit(WRONG_USAGE)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--quiet", action="store_true", help="no progress, no log")
    parser.add_argument("--verbose", "-v", action="store_true", help="more log")
    parser.add_argument("--seed", type=int, default=0, help="the one random seed (default: 0)")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; the arguments of `command` alone are filled in."""
    parser = _Parser(
        prog="fmcluster",
        description="Clustering on foundation-model embeddings that people can trust and use.",
        epilog="example: fmcluster demo --out demo/",
    )
    parser.add_argument("--version", action="version", version=f"fmcluster {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, about in COMMANDS.items():
        sub = subparsers.add_parser(name, help=about, description=about)
        if name == command:
            module = _module(name)
            sub.epilog = f"example: {module.EXAMPLE}"
            module.add_arguments(sub)
            _common(sub)
    return parser


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"fmcluster.cli.{command}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if argv is None:  # a process of our own, in which no library is loaded yet
        _calm()
    command = next((word for word in given if not word.startswith("-")), None)
    try:
        args = build_parser(command if command in COMMANDS else None).parse_args(given)
    except SystemExit as stop:
        return int(stop.code or 0)
    _set_up_logging(args)
    try:
        module = _module(args.command)
        payload = module.run(args)
    except KeyboardInterrupt:
        if argv is None:  # threads may still be in native code, which Python's own end would abort
            signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        again = " ".join(["fmcluster", *given])
        _say("interrupted: what was complete is kept", f"run `{again}` again to go on")
        return INTERRUPTED
    except Exception as error:
        return _report_error(error)
    _print(args, module, payload)
    return CHECK_FAILED if payload.get("check_failed") else DONE


def _calm() -> None:
    """Let libraries wait without spinning; a wrong FMCLUSTER_THREADS is for the command to say."""
    from fmcluster.utils.threads import calm_libraries

    with contextlib.suppress(ValueError):
        calm_libraries()


def _print(args: argparse.Namespace, module: ModuleType, payload: dict[str, Any]) -> None:
    from fmcluster.utils import distributed

    if not distributed.is_main():
        return
    try:
        if args.json:
            from fmcluster.utils.files import to_json

            sys.stdout.write(to_json(payload) + "\n")
        else:
            sys.stdout.write(printable(module.render(payload)) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is wrong with the result.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _set_up_logging(args: argparse.Namespace) -> None:
    level = logging.ERROR if args.quiet else logging.INFO if args.verbose else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="%(levelname)s: %(message)s")
    if args.quiet:
        os.environ["FMCLUSTER_QUIET"] = "1"
        warnings.simplefilter("ignore")
    else:
        warnings.showwarning = _show_warning  # type: ignore[assignment]


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if category.__module__.startswith(("fmcluster", "sklearn")) or category is UserWarning:
        sys.stderr.write(printable(f"warning: {message}") + "\n")


def printable(text: str) -> str:
    """Return text whose control characters are shown and not obeyed: data reaches the terminal."""
    return CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _say(line: str, hint: str | None = None) -> None:
    sys.stderr.write(printable(f"{line}\n" + (f"hint: {hint}\n" if hint else "")))


def _report_error(error: Exception) -> int:
    """Print one line and a hint, and return the exit code; the traceback only when asked for."""
    from fmcluster.utils import errors

    if os.environ.get("FMCLUSTER_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    hint: str | None = None
    code = FAILED
    usage = (ValueError, TypeError, FileNotFoundError, errors.EncoderUnavailableError)
    if isinstance(error, usage):
        code = WRONG_USAGE
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        code, hint = FAILED, "free some space and run the same command again: it goes on"
    elif not isinstance(error, (*usage, errors.MissingExtraError, errors.CorruptShardError)):
        hint = "set FMCLUSTER_DEBUG=1 for the traceback"
    first, *rest = (str(error) or type(error).__name__).strip().split("\n")
    _say(f"error: {first}", hint or (rest[0] if rest else None))
    return code


if __name__ == "__main__":
    raise SystemExit(main())
