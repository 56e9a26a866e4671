"""Refuses what the access of a request does not allow; a route without a rule is refused to everybody."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

from aiohttp.web import AbstractRoute, AppKey, Request, Response, StreamResponse, middleware
from msgspec import Struct

from web.access.access import ACCESS, Access, Scope
from web.access.denied import DeniedError, insufficient
from web.access.guard import GUARD
from web.access.use_log import USE_LOG
from web.middleware.problems import Handler, RequestError

__all__ = ["RULES", "Need", "Rule", "allowed_at_once", "check_access"]

Need: TypeAlias = Scope | Literal["any", "nothing"]
"""The scope that a route needs; `any` access, whatever its scopes; or `nothing`, not even an access."""


class Rule(Struct, frozen=True):
    """The right that a route needs. *stream*: it answers an EventSource, which can present a ticket."""

    needs: Need
    stream: bool = False


RULES: Final = AppKey[Mapping[AbstractRoute, Rule]]("rules")


@middleware
async def check_access(request: Request, handler: Handler) -> StreamResponse:
    """Find the access of *request*, and refuse what it does not allow.

    An EventSource that comes back with a cookie or a ticket that has ended is answered 204, which ends it; it can read
    no other answer.
    """
    if request.match_info.http_exception is not None:
        return await handler(request)  # there is no such route, for nobody
    rule = request.app[RULES].get(request.match_info.route)
    if rule is None:
        raise RequestError(HTTPStatus.FORBIDDEN, "nobody may use this route, since it has no rule")
    if rule.needs == "nothing":
        return await handler(request)
    try:
        request[ACCESS] = await _allowed(request, rule)
    except DeniedError as denied:
        request.app[USE_LOG].refused(request, denied)
        if rule.stream and denied.ambient:
            return Response(status=HTTPStatus.NO_CONTENT)
        raise RequestError(denied.status, denied.detail, denied.headers) from None
    return await handler(request)


def allowed_at_once(request: Request, rule: Rule) -> bool:
    """Whether *request* for a stream is allowed, as far as that can be decided at once: its access is found then.

    If not, `check_access` has to decide.
    """
    access = request.app[GUARD].find_at_once(request)
    if access is None or _lacks(access, rule):
        return False
    request[ACCESS] = access
    return True


async def _allowed(request: Request, rule: Rule) -> Access:
    access = await request.app[GUARD].find(request, stream=rule.stream)
    if scope := _lacks(access, rule):
        raise insufficient(scope)
    return access


def _lacks(access: Access, rule: Rule) -> Scope | None:
    """The scope that *rule* needs, and that *access* does not have."""
    return None if rule.needs == "any" or rule.needs == "nothing" or access.allows(rule.needs) else rule.needs
