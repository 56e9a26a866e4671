"""The plainest of HTTP clients: one connection a request, and it waits until the answer has ended."""

import json
from collections.abc import Generator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from typing import Any
from urllib.parse import urlsplit

__all__ = ["answer", "get", "post"]


@contextmanager
def answer(method: str, url: str, body: bytes | None = None, **headers: str) -> Generator[HTTPResponse]:
    """The answer to a request, to be read."""
    place = urlsplit(url)
    with closing(HTTPConnection(place.netloc)) as connection:
        connection.request(method, f"{place.path}?{place.query}" if place.query else place.path, body, headers)
        with connection.getresponse() as response:
            yield response


def get(url: str) -> bytes:
    """The whole body at *url*; of a stream, all of it until it ends."""
    with answer("GET", url) as response:
        assert response.status == 200
        return response.read()


def post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    """What is answered to *body*, as JSON."""
    with answer("POST", url, json.dumps(body).encode(), **{"Content-Type": "application/json"}) as response:
        created: dict[str, Any] = json.load(response)
    return created
