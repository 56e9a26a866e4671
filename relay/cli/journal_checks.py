"""Whether a journal that several relays share can be kept where it is: what `relay doctor` examines of its server."""

from typing import TYPE_CHECKING, Final

from relay import ConfigError, JournalError
from relay.cli.report import Report, counted
from relay.config.settings import Settings

if TYPE_CHECKING:
    from relay.journal.redis.inspection import EngineReport

__all__ = ["examine_shared_journal"]

_MEBIBYTE: Final = 1024 * 1024


async def examine_shared_journal(report: Report, settings: Settings) -> None:
    """Rows for the server of the journal, if several relays share it. It is only read; takes 5 seconds at most."""
    if not settings.journal.shared:
        return
    try:
        from relay.journal.redis.inspection import inspect
    except ConfigError as error:
        report.problem("journal", str(error))
        return
    try:
        found = await inspect(settings.journal.reveal(), settings.cluster.name)
    except (ConfigError, JournalError) as error:
        report.problem("journal", str(error))
        return
    server = f"{found.server or 'a server'} {found.version or 'of an unknown version'}"
    report.row("journal", f"{server} at {found.place}{_role(found)}")
    report.row("cluster", _cluster(found, settings.cluster.name))
    if found.may_read_info:
        report.row("persistence", _persistence(found))
        report.row("memory", _memory(found))
    apart = f", its clock is {abs(found.clock):.3f} s {'ahead' if found.clock > 0 else 'behind'}"
    report.row("latency", f"{found.latency * 1000:.2f} ms, {found.slowest * 1000:.2f} ms at most{apart}")
    for problem in found.problems:
        report.problem("journal", problem)
    for advice in found.advice:
        report.row("notice", advice)


def _role(found: "EngineReport") -> str:
    if found.role is None:
        return ""
    return ", a replica" if found.role == "slave" else f", with {counted(found.replicas or 0, 'replica')}"


def _cluster(found: "EngineReport", name: str) -> str:
    if not found.epoch:
        return f"{name} is not there yet, and will be made"
    nodes, leases = counted(found.nodes, "relay"), counted(found.leases, "shard")
    return f"{name} has {counted(found.records, 'record')}, {nodes}, and {leases} with an owner"


def _persistence(found: "EngineReport") -> str:
    if found.appendonly:
        return f"appendonly yes, appendfsync {found.appendfsync or 'unknown'}"
    if found.save is None:
        return "appendonly no, snapshots unknown"
    return f"appendonly no, {f'snapshots {found.save}' if found.save else 'no snapshots'}"


def _memory(found: "EngineReport") -> str:
    used = f"{(found.used_memory or 0) / _MEBIBYTE:,.1f} MiB in use"
    limit = f"of {found.maxmemory / _MEBIBYTE:,.1f} MiB" if found.maxmemory else "without a limit"
    return f"{used} {limit}, policy {found.policy or 'unknown'}"
