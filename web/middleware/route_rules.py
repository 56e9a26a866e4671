"""The rule of a route, looked up by method and path, without a request."""

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote

from aiohttp.web import Application
from msgspec import Struct

from web.middleware.access_check import RULES, Rule

__all__ = ["FoundRoute", "find_route"]


class FoundRoute(Struct, frozen=True):
    """The route of a path. *rule*: None if nobody may use it. *variables*: the parts of the path that it names."""

    rule: Rule | None
    variables: Mapping[str, str]


def find_route(app: Application, method: str, path: str) -> FoundRoute | frozenset[str]:
    """The route of *app* for *method* and *path*, which has no query; else the methods that this path has, if any."""
    methods: set[str] = set()
    for resource in app.router.resources():
        if (variables := _matched(cast("Mapping[str, Any]", resource.get_info()), path)) is None:
            continue
        for route in resource:
            if route.method == method:
                return FoundRoute(app[RULES].get(route), variables)
            methods.add(route.method)
    return frozenset(methods)


def _matched(info: Mapping[str, Any], path: str) -> dict[str, str] | None:
    """The variables of *path* for the resource that *info* describes; None if it is another resource's."""
    pattern: re.Pattern[str] | None = info.get("pattern")
    if pattern is None:
        return {} if info.get("path") == path else None
    found = pattern.fullmatch(path)
    return None if found is None else {name: unquote(value) for name, value in found.groupdict().items()}
