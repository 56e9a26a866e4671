"""`relay access check`: what the relay would answer to a request of a subject, and why, without sending any."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import click
from msgspec import Struct
from msgspec.structs import replace

from relay import Relay, UsageError
from relay.cli.options import config_option, settings_from
from relay.config.access import SCOPES
from relay.config.access_settings import AccessSettings
from relay.config.settings import Settings
from relay.hints import unknown
from relay.journal.sqlite import stored_owner
from relay.text import inert
from web import Access, create_app
from web.access.access import ANYBODY
from web.access.keys import ApiKeys, jobs_of, scopes_of
from web.middleware.access_check import Rule
from web.middleware.route_rules import FoundRoute, find_route

__all__ = ["access"]

_JOBS: Final = {"job": "", "video": "", "response": "resp_"}
"""The variables of paths that name a job, and what stands in front of its id."""

_QUERY_LIMIT: Final = 1_000


class _Verdict(Struct, frozen=True):
    status: str
    why: str

    @property
    def allows(self) -> bool:
        return self.status.startswith("2")


@click.group
def access() -> None:
    """Say what a key may do."""


@access.command
@config_option
@click.option("--as", "name", metavar="NAME", help="A key's name, proxy:USER or jwt:SUB; by default nobody.")
@click.option("--scopes", metavar="SCOPES", help="The scope claim of the token of jwt:SUB.")
@click.argument("method")
@click.argument("path")
def check(config: Path | None, name: str | None, scopes: str | None, method: str, path: str) -> int:
    """Say what the relay would answer to METHOD PATH, such as GET /v1/jobs/job_1, and why.

    The rules are those of the relay itself, and the owner of a job is read from the journal; the relay may be running.
    Status 0 if the request is allowed, 1 if it is refused.
    """
    settings = settings_from(config, os.environ)
    found = _accesses(settings, name, scopes)
    place = _Place.of(method, path)
    verdicts = list(dict.fromkeys(_judged(settings, place, one) for one in found))
    for verdict in verdicts:
        click.echo(inert(f"{verdict.status}: {verdict.why}"))
    return 0 if all(verdict.allows for verdict in verdicts) else 1


class _Place(Struct, frozen=True):
    """What a request is about: its route, and the jobs that it names."""

    found: FoundRoute | frozenset[str]
    method: str
    jobs: tuple[str, ...]

    @staticmethod
    def of(method: str, path: str) -> "_Place":
        parts = urlsplit(path)
        if not path.startswith("/") or parts.netloc or parts.fragment or len(parts.query) > _QUERY_LIMIT:
            raise click.UsageError(f"{path[:200]!r} is no path of a relay, such as /v1/jobs or /v1/events?job=job_1")
        method = method.upper()
        found = find_route(create_app(Relay([])), method, parts.path)
        if isinstance(found, frozenset):
            return _Place(found, method, ())
        named = [value.removeprefix(_JOBS[key]) for key, value in found.variables.items() if key in _JOBS]
        queried = parse_qs(parts.query).get("job", []) if found.rule is not None and found.rule.stream else []
        return _Place(found, method, tuple(dict.fromkeys([*named, *queried])))


def _accesses(settings: Settings, name: str | None, scopes: str | None) -> Sequence[Access | None]:
    """What *name* has: two keys of one name may differ. None: no access at all. Raises UsageError."""
    if settings.access is None:
        return [ANYBODY]
    if name is None:
        return [None]
    way, _, rest = name.partition(":")
    if scopes is not None and way != "jwt":
        raise click.UsageError("--scopes are those of a token; say whose, as in --as jwt:SUB")
    if way == "jwt" and rest:
        return [_of_token(settings.access, name, scopes)]
    if way == "proxy" and rest:
        return [_of_proxy(settings.access, name)]
    return _of_keys(settings.access, name)


def _of_token(settings: AccessSettings, name: str, scopes: str | None) -> Access:
    if settings.jwt is None:
        raise UsageError("[access.jwt] is not configured, so no token is accepted")
    if scopes is None:
        raise click.UsageError("what jwt:SUB may do is in the scope claim of its token; say it with --scopes")
    if wrong := sorted(scopes_of(scopes) - set(SCOPES)):
        raise UsageError(f"there is no scope {wrong[0]!r}; {unknown(wrong[0], SCOPES)}")
    return Access(subject=name, scopes=scopes_of(scopes))


def _of_proxy(settings: AccessSettings, name: str) -> Access:
    if settings.proxy is None:
        raise UsageError("[access.proxy] is not configured, so no proxy is believed")
    return Access(subject=name, scopes=scopes_of(settings.proxy.scopes), jobs=jobs_of(settings.proxy.jobs))


def _of_keys(settings: AccessSettings, name: str) -> list[Access]:
    known = [replace(one, credential="") for one in ApiKeys(settings.keys, lambda _: None).by_credential.values()]
    named = [one for one in known if one.subject in (name, f"key:{name}")]
    if not named:
        names = {key.name: None for key in settings.keys}
        hint = unknown(name, names) if names else "no [[access.keys]] are configured"
        raise UsageError(f"no key is called {name!r}; {hint}; other ways in are proxy:USER and jwt:SUB")
    return named


def _judged(settings: Settings, place: _Place, access: Access | None) -> _Verdict:
    """In the order in which the relay decides."""
    if isinstance(place.found, frozenset):
        if place.found:
            return _Verdict("405", f"this path is there for {', '.join(sorted(place.found))} alone")
        return _Verdict("404", "there is no such path, for nobody")
    rule = place.found.rule
    if rule is None:
        return _Verdict("403", "nobody may use this route, since it has no rule")
    if rule.needs == "nothing":
        return _Verdict(_good(place), "it asks for no access")
    if access is None:
        return _Verdict("401", "it needs an access, and nobody has none")
    who = access.subject or "everybody, while [access] is not configured,"
    if rule.needs != "any" and not access.allows(rule.needs):
        return _Verdict("403", f"it needs {rule.needs}, and {who} has {' '.join(sorted(access.scopes)) or 'no scope'}")
    has = f"{who} has an access" if rule.needs == "any" else f"{who} has {_means(access, rule)}"
    if not place.jobs:
        return _Verdict(_good(place), has)
    return _about_jobs(settings, place, access, has)


def _about_jobs(settings: Settings, place: _Place, access: Access, has: str) -> _Verdict:
    seen: list[str] = []
    for job in place.jobs:
        owner = _owner(settings, job)
        if owner is None:
            where = settings.journal.path or "of the cluster"
            return _Verdict("404", f"{job} is not in the journal {where}")
        if not access.sees(job, owner):
            whose = f"belongs to {owner}" if owner else "belongs to nobody"
            return _Verdict("404", f"{job} {whose}, and is answered to {access.subject} as an unknown job is")
        seen.append(job)
    if access.sees_all:
        return _Verdict(_good(place), f"{has}, and sees all jobs")
    return _Verdict(_good(place), f"{has}, and {'owns' if access.jobs == 'own' else 'sees'} {', '.join(seen)}")


def _owner(settings: Settings, job: str) -> str | None:
    if settings.journal.shared:
        return asyncio.run(_owner_at_server(settings, job))
    if settings.journal.scheme != "sqlite":
        raise UsageError(
            f"{settings.journal.where} is not read here, so the running relay alone knows whose job that is; ask it"
        )
    return stored_owner(Path(settings.journal.path), job)


async def _owner_at_server(settings: Settings, job: str) -> str | None:
    from relay.journal.redis.reading import reading

    async with reading(settings.journal.reveal(), settings.cluster.name) as journal:
        async for _, stored in journal.states([job]):
            return None if stored is None else stored.owner
    return None


def _means(access: Access, rule: Rule) -> str:
    """The scope by which *access* meets *rule*."""
    return rule.needs if rule.needs in access.scopes else "operate"


def _good(place: _Place) -> str:
    return "200" if place.method in ("GET", "HEAD") else "2xx"
