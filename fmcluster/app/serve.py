"""Open the page of a run: bind to this machine, load the result, serve until Ctrl-C."""

from __future__ import annotations

import contextlib
import logging
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmcluster.utils.files import lock
from fmcluster.utils.optional import require
from fmcluster.utils.stopping import Stopped, check_stopped, stoppable

if TYPE_CHECKING:
    from fmcluster.app.server import Host

logger = logging.getLogger(__name__)
ADDRESS = "127.0.0.1"
# Of the token: 256 bits, which nobody guesses.
TOKEN_BYTES = 32
# Seconds that the end may take before a line says what is waited for.
PATIENCE = 1.0


def serve(
    folder: str | Path,
    open_session: Callable[[], Any],
    *,
    port: int = 0,
    open_browser: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> bool:
    """Serve the page of a run until interrupted.

    Parameters
    ----------
    folder : path
        The run, which one app at a time has open.
    open_session : callable
        Gives the `Session`; called beside the server, so that the page is there at once.
    port : int
        0 takes a free one.
    open_browser : bool
        Whether to open the page.
    say : callable
        Gets the address, once it is listened on.

    Returns
    -------
    bool
        True once nothing goes on any more; False where it was interrupted again before that: then
        threads are still in native code, and only `os._exit` ends the process cleanly.

    Raises
    ------
    MissingExtraError
        starlette or uvicorn is not installed.
    ValueError
        The run is open in another app, or the port is taken.
    """
    require("starlette", extra="app")
    uvicorn = require("uvicorn", extra="app")
    from fmcluster.app.server import Host, create_app

    with only_writer(Path(folder)), _listening(port) as listener:
        token, bound = secrets.token_urlsafe(TOKEN_BYTES), listener.getsockname()[1]
        host = Host(folder=Path(folder).expanduser().resolve())
        app = create_app(host, token=token, port=bound)
        # Requests hold the token: they are not logged.
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            http="h11",
            ws="none",
        )

        class Server(uvicorn.Server):  # type: ignore[name-defined, misc]
            """Tells what is being done to end at once, not after the last request."""

            def handle_exit(self, sig: int, frame: Any) -> None:
                first = not self.should_exit
                super().handle_exit(sig, frame)
                if first:
                    host.end()

        server = Server(config)
        failed: list[Exception] = []

        def load() -> None:
            from fmcluster.app.work import Work

            try:
                with stoppable(host.ending):
                    work = Work(open_session())
                    host.put(work)
                    check_stopped()
                work.start()
            except Stopped:
                pass
            except Exception as error:
                failed.append(error)
                host.put(None, str(error))
                server.should_exit = True

        def end() -> None:
            server.should_exit = True
            host.end()

        loading = threading.Thread(target=load, name="fmcluster-load")
        url = f"http://{ADDRESS}:{bound}/?token={token}"
        try:
            with _interrupt_calls(end):
                loading.start()
                say(url)
                if open_browser:
                    # A daemon, for a browser of the terminal blocks; it only starts a process.
                    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
                server.run(sockets=[listener])
        finally:
            host.end()
        if server.force_exit or not _ended(loading, host):
            return False
        if failed:
            raise failed[0]
        return True


@contextlib.contextmanager
def _interrupt_calls(end: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C call `end` and raise nothing, also when uvicorn hands it on after it has ended.

    Raised while two threads import, it may leave Python's lock of all imports taken: the other
    thread then waits for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: end())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ended(loading: threading.Thread, host: Host) -> bool:
    """Wait for what is still being done; return whether nobody interrupted that."""
    line = "ending what is being computed; Ctrl-C again does not wait for it"
    told = threading.Timer(PATIENCE, logger.warning, (line,))
    told.start()
    try:
        loading.join()
        if host.work is not None:
            host.work.stop()
    except KeyboardInterrupt:
        return False
    finally:
        told.cancel()
    return True


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the run's lock, beside the folder, since a save puts another folder in its place.

    Raises
    ------
    ValueError
        Another app holds it.
    """
    from filelock import Timeout

    folder = folder.expanduser().resolve()
    path = folder.parent / f".{folder.name}.app.lock"
    try:
        with lock(path, timeout=0):
            yield
    except Timeout:
        raise ValueError(
            f"{folder.name}/ is open in another app: close that one first (Ctrl-C in its terminal)"
        ) from None


@contextlib.contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((ADDRESS, port))
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port} cannot be had: {error}; leave --port away") from None
        # Waiting connections: with fewer, some are refused when a page asks for many pictures.
        listener.listen(64)
        yield listener
    finally:
        listener.close()
