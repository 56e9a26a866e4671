"""`relay serve --workers`: several relays as processes of one command, at one address, over one shared journal."""

import asyncio
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager

from msgspec import Struct
from msgspec.structs import replace

from relay import UsageError
from relay.cli.listening import Listeners, listening, reserved
from relay.cli.processes import Ended, Worker, can_fork, work_in_processes
from relay.config.settings import ConfiguredSink, Settings
from sinks.console import ConsoleSettings

__all__ = ["Place", "check_workers", "ending_with", "place_of_one", "serve_in_workers", "settings_of"]

_NODE_LENGTH = 44
"""Characters of a name of a node that leave room for the number of a worker behind it, of 48."""


class Place(Struct, frozen=True):
    """Where one relay of this command serves; *worker* is None if it is the only one."""

    listeners: Listeners
    worker: Worker | None = None


def check_workers(settings: Settings) -> None:
    """Raise UsageError if *settings*, or this system, do not let several processes serve."""
    if not settings.journal.shared:
        raise UsageError(
            f"--workers needs a journal that processes share, and {settings.journal.where} serves one alone; under"
            ' [journal] write the address of a server of Redis, as in url = "redis://127.0.0.1"'
        )
    if not can_fork():
        raise UsageError("this system cannot fork processes, which --workers needs; start several relays instead")


@contextmanager
def place_of_one(settings: Settings) -> Generator[Place]:
    """The place of a relay that is alone in its command, which listens there while entered. Raises UsageError."""
    server = settings.server
    with listening(server.host, server.port, access=settings.access is not None) as listeners:
        yield Place(listeners)


def serve_in_workers(
    count: int,
    settings: Settings,
    serve: Callable[[Settings, Place], int],
    *,
    begun: Callable[[Listeners], object],
    reload: Callable[[], Settings],
) -> int:
    """Run *serve* in *count* processes, which listen at one place, until a signal ends them; return the exit status.

    *begun* is called here once all of them serve. A process that takes the place of one that died is given the settings
    that *reload* returns: keys that are revoked since stay revoked. Raises UsageError if nobody can listen there.
    """
    access = settings.access is not None
    with reserved(settings.server.host, settings.server.port, access=access) as listeners:
        which = work_in_processes(count, lambda: begun(listeners))
        if isinstance(which, Ended):
            return which.status
        own = settings_of(which, reload() if which.again else settings)
        if not listeners.reserves:
            return serve(own, Place(listeners, which))
        port = listeners.sockets[0].getsockname()[1]
        with listening(settings.server.host, port, access=access, among_others=True) as sockets:
            return serve(own, Place(sockets, which))


def settings_of(worker: Worker, settings: Settings) -> Settings:
    """*settings* for one of several: a name among the nodes, and a console whose lines another process writes."""
    cluster = settings.cluster
    if cluster.node is not None:
        cluster = replace(cluster, node=f"{cluster.node[:_NODE_LENGTH]}-{worker.number}")
    sinks = settings.sinks or (ConfiguredSink(settings=ConsoleSettings()),)
    if worker.terminal:
        sinks = tuple(map(_for_a_terminal, sinks))
        if not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
            os.environ["FORCE_COLOR"] = "1"
    return replace(settings, cluster=cluster, sinks=sinks)


def _for_a_terminal(sink: ConfiguredSink) -> ConfiguredSink:
    """A console knows by its output whether that is a terminal; that of a worker is a pipe."""
    settings = sink.settings
    if not isinstance(settings, ConsoleSettings) or settings.format is not None:
        return sink
    return replace(sink, settings=replace(settings, format="pretty"))


@contextmanager
def ending_with(worker: Worker | None, stop: asyncio.Event) -> Generator[None]:
    """Set *stop* once the process that has started *worker* asks for its end, or has died."""
    if worker is None:
        yield
        return
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(worker.line)
        stop.set()

    loop.add_reader(worker.line, end)
    try:
        yield
    finally:
        loop.remove_reader(worker.line)
