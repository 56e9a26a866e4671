"""Every route of the relay: what it needs, a request that it accepts, and what is answered where that is allowed.

tests/web/access/test_matrix.py compares this table with the router, so that no route is without a row.
"""

from typing import Final

from aiohttp.web import Application
from msgspec import Struct

__all__ = ["OTHER_METHODS", "ROUTES", "Key", "Route", "of_router"]

Key = tuple[str, str]
"""The method of a route, and the pattern of its path."""

OTHER_METHODS: Final = ("PUT", "PATCH", "DELETE", "POST", "GET", "HEAD", "OPTIONS", "TRACE", "PURGE")
"""Methods that are tried on every path; those without a route are answered 405."""


class Route(Struct, frozen=True):
    """One row. *needs*: a scope, `any` access, or `nothing`. *path* and *body* have `{job}` where a job is named."""

    needs: str
    path: str
    allowed: frozenset[int] = frozenset({200})
    body: str = ""
    stream: bool = False

    @property
    def names_job(self) -> bool:
        """Whether it is about one job."""
        return "{job}" in self.path

    def line(self, method: str, job: str, query: str = "") -> str:
        """The request line, about *job*."""
        path = self.path.replace("{job}", job)
        return f"{method} {path}{('&' if '?' in path else '?') + query if query else ''}"

    def fields(self) -> list[str]:
        """The header fields that its body needs."""
        return ["Content-Type: application/json"] if self.body else []


def _status(*allowed: int) -> frozenset[int]:
    return frozenset(allowed)


_CHAT: Final = '{"model":"scripted","stream":true,"messages":[{"role":"user","content":"a cat"}]}'
_RESPONSE: Final = '{"model":"scripted","background":true,"input":"a cat"}'
_VIDEO: Final = '{"model":"scripted","prompt":"a cat"}'

ROUTES: Final[dict[Key, Route]] = {
    ("GET", "/v1/jobs/{job}/events"): Route("jobs:read", "/v1/jobs/{job}/events", stream=True),
    ("POST", "/v1/jobs"): Route("jobs:submit", "/v1/jobs", _status(201), '{"upstream":"scripted","input":{}}'),
    ("GET", "/v1/jobs"): Route("jobs:read", "/v1/jobs"),
    ("GET", "/v1/jobs/{job}"): Route("jobs:read", "/v1/jobs/{job}"),
    ("POST", "/v1/jobs/{job}/cancel"): Route("jobs:cancel", "/v1/jobs/{job}/cancel", _status(202)),
    ("GET", "/v1/events"): Route("jobs:read", "/v1/events?job={job}", stream=True),
    ("POST", "/v1/session"): Route("any", "/v1/session"),
    ("GET", "/v1/session"): Route("any", "/v1/session"),
    ("DELETE", "/v1/session"): Route("any", "/v1/session", _status(204)),
    ("POST", "/v1/tickets"): Route("jobs:read", "/v1/tickets", _status(201), "{}"),
    ("GET", "/v1/sinks"): Route("operate", "/v1/sinks"),
    # There is no such sink: 404 comes after the access.
    ("POST", "/v1/sinks/{name}"): Route("operate", "/v1/sinks/none", _status(404), '{"level":"info"}'),
    # There are no callbacks: 401 asks for the proof of one, and not for an access.
    ("POST", "/v1/webhooks/{upstream}/{job}/{token}"): Route("nothing", "/v1/webhooks/u/j/t", _status(401)),
    ("POST", "/v1/chat/completions"): Route("jobs:submit", "/v1/chat/completions", body=_CHAT),
    ("GET", "/v1/models"): Route("jobs:submit", "/v1/models"),
    ("POST", "/v1/videos"): Route("jobs:submit", "/v1/videos", body=_VIDEO),
    ("GET", "/v1/videos"): Route("jobs:read", "/v1/videos"),
    ("GET", "/v1/videos/{video}"): Route("jobs:read", "/v1/videos/{job}"),
    ("GET", "/v1/videos/{video}/content"): Route("jobs:read", "/v1/videos/{job}/content", _status(302)),
    ("DELETE", "/v1/videos/{video}"): Route("jobs:cancel", "/v1/videos/{job}"),
    ("POST", "/v1/video/generations"): Route("jobs:submit", "/v1/video/generations", body=_VIDEO),
    ("GET", "/v1/video/generations/{video}"): Route("jobs:read", "/v1/video/generations/{job}"),
    ("POST", "/v1/responses"): Route("jobs:submit", "/v1/responses", body=_RESPONSE),
    ("GET", "/v1/responses/{response}"): Route("jobs:read", "/v1/responses/resp_{job}"),
    ("POST", "/v1/responses/{response}/cancel"): Route("jobs:cancel", "/v1/responses/resp_{job}/cancel"),
    ("GET", "/healthz"): Route("nothing", "/healthz"),
    ("GET", "/readyz"): Route("nothing", "/readyz"),
    ("GET", "/metrics"): Route("operate", "/metrics"),
    ("GET", "/"): Route("nothing", "/"),
    ("GET", "/static/{name}"): Route("nothing", "/static/relay.js"),
}
ROUTES.update({("HEAD", path): route for (method, path), route in list(ROUTES.items()) if method == "GET"})


def of_router(app: Application) -> set[Key]:
    """The routes that the router of *app* has."""
    return {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
