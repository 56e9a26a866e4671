"""Whether `relay serve` could begin here: what `relay doctor` examines before it turns to the upstreams."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from relay import ConfigError, JournalError, UsageError
from relay.cli.build import build_sink, build_upstream, build_webhooks
from relay.cli.fd_limit import fd_shortage
from relay.cli.listening import listening
from relay.cli.packages import shared_packages
from relay.cli.redaction import secrets_in
from relay.cli.report import Report, counted
from relay.clock import SystemClock
from relay.config.access_settings import JwtSettings
from relay.config.server import SYSTEMD
from relay.config.settings import JournalSettings, ServerSettings, Settings
from web.access.jwt import JwtVerifier
from web.gateway.models import ModelTable
from web.tls import Certificate

__all__ = ["examine"]

LITTLE_ROOM: Final = 64 * 1024 * 1024
"""How many bytes of a disk are little: what a journal takes by default."""


def examine(report: Report, settings: Settings) -> None:
    """A row for the journal and for the descriptors, and one for each thing that would keep the relay from its work.

    Nothing is left behind. Sinks and upstreams are made as `relay serve` makes them, which runs their code.
    """
    _examine_journal(report, settings.journal)
    _examine_descriptors(report, settings)
    _examine_port(report, settings)
    _examine_tls(report, settings.server)
    _examine_tokens(report, settings)
    _examine_sinks(report, settings)
    _examine_webhooks(report, settings)
    _examine_models(report, settings)
    for shared in shared_packages():
        report.problem("packages", shared)
    opening = {secret.file for secret in secrets_in(settings.access)}
    for path in _private_files(settings):
        _examine_mode(report, path, opens_the_relay=path in opening)


def _examine_journal(report: Report, journal: JournalSettings) -> None:
    if journal.scheme == "memory":
        report.row("journal", "in memory; a relay that ends forgets its jobs")
    if journal.scheme != "sqlite":
        return
    path = Path(journal.path)
    problems = list(_problems_of_journal(path))
    for problem in problems:
        report.problem("journal", problem)
    if not problems:
        report.row("journal", f"{path} can be read" if path.exists() else f"{path} is not there yet, and will be made")


def _problems_of_journal(path: Path) -> Iterator[str]:
    from relay.journal.sqlite import in_use, stored_records

    folder = path.resolve().parent
    if not folder.is_dir():
        yield f"{path} cannot be made: there is no folder {folder}; make it"
        return
    try:
        # A file without a name: SQLite writes others beside the journal, so the folder has to take new ones.
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")
    except OSError as error:
        yield f"{path} cannot be written: {folder} takes no files ({error.strerror}); let this user write there"
    else:
        if (free := shutil.disk_usage(folder).free) < LITTLE_ROOM:
            left = f"{free / 2**20:,.1f} MiB"
            yield f"the disk of {path} has {left} left; make room: while it is full, new work is refused"
    if not path.exists():
        return
    try:
        with path.open("r+b"):
            pass
        with closing(stored_records(path, None, notify=lambda _: None)) as records:
            next(records, None)
    except OSError as error:
        yield f"{path} cannot be written: {error.strerror}; let this user write it, or name another file"
    except JournalError as error:
        yield str(error)
    if in_use(path):
        yield f"{path} is in use by another relay; stop that one before another is started, or name another file"


def _examine_descriptors(report: Report, settings: Settings) -> None:
    streams = settings.server.max_streams
    if (problem := fd_shortage(streams, len(settings.upstreams))) is not None:
        report.problem("descriptors", problem)
    else:
        report.row("descriptors", f"enough for {counted(streams, 'stream')} (max_streams)")


def _examine_port(report: Report, settings: Settings) -> None:
    server = settings.server
    if server.host == SYSTEMD:
        report.row("port", "a socket of systemd, which is there once systemd starts the relay")
        return
    try:
        with listening(server.host, server.port, access=settings.access is not None):
            pass
    except UsageError as error:
        report.problem("port", str(error))


def _examine_tls(report: Report, server: ServerSettings) -> None:
    if server.tls is None:
        return
    try:
        Certificate(Path(server.tls.cert), Path(server.tls.key), partial(report.row, "notice"))
    except ConfigError as error:
        report.problem("tls", str(error))
    else:
        report.row("tls", f"{server.tls.cert} and its key can be used")


def _examine_tokens(report: Report, settings: Settings) -> None:
    if (jwt := _jwt(settings)) is None:
        return
    try:
        JwtVerifier(jwt, notify=partial(report.row, "notice"))
    except ConfigError as error:
        report.problem("tokens", str(error))
    else:
        algorithms = " or ".join(jwt.algorithms)
        report.row("tokens", f"of {jwt.issuer} for {jwt.audience}, signed with {algorithms}, are accepted")


def _jwt(settings: Settings) -> JwtSettings | None:
    return settings.access.jwt if settings.access is not None else None


def _examine_sinks(report: Report, settings: Settings) -> None:
    for sink in settings.sinks:
        try:
            build_sink(sink)
        except ConfigError as error:
            report.problem("sink", str(error))


def _examine_webhooks(report: Report, settings: Settings) -> None:
    try:
        webhooks = build_webhooks(settings, SystemClock())
    except ConfigError as error:
        report.problem("webhooks", str(error))
        return
    public = settings.server.public_url
    if webhooks is not None and public is not None and _is_local(public):
        report.problem(
            "webhooks", f"upstreams are to call {public}, which is this machine to each of them; see public_url"
        )


def _examine_models(report: Report, settings: Settings) -> None:
    upstreams = {one.name: build_upstream(one, SystemClock()) for one in settings.upstreams}
    try:
        models = ModelTable(upstreams, settings.gateway)
    except ConfigError as error:
        report.problem("models", str(error))
        return
    served = ", ".join(f"{model.name} ({model.upstream})" for model in models)
    if upstreams:
        report.row("models", served or "none, since no upstream accepts submissions")


def _is_local(url: str) -> bool:
    """Whether *url* leads a client to the client's own machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _private_files(settings: Settings) -> Iterator[Path]:
    if settings.journal.scheme == "sqlite":
        yield Path(settings.journal.path)
    jwt = _jwt(settings)
    # The key that verifies signatures is public, unless it also makes them.
    public = jwt.key if jwt is not None and not jwt.algorithms[0].startswith("HS") else None
    yield from sorted({secret.file for secret in secrets_in(settings) if secret.file and secret is not public})


def _examine_mode(report: Report, path: Path, *, opens_the_relay: bool) -> None:
    """Say where *path* can be read by everybody: it holds a secret, or addresses that are as good as one.

    A secret that opens the relay is for its own user alone.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if os.name == "posix" and mode & stat.S_IROTH:
        report.row("notice", f"{path} can be read by every user of this machine; chmod o-rwx {path}")
    elif os.name == "posix" and opens_the_relay and mode & stat.S_IRWXG:
        report.row(
            "notice", f"{path} is open to its group; chmod go-rwx {path}, unless the relay reads it by that group"
        )
