"""How many files are passed on at one time, in all and for one client."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from web.gateway.errors import GatewayError

__all__ = ["Transfers"]

IN_ALL: Final = 128
OF_A_CLIENT: Final = 32
"""A browser opens six connections to one host, and several clients may share an address."""


class Transfers:
    """Counts the files that are being passed on."""

    def __init__(self, in_all: int = IN_ALL, of_a_client: int = OF_A_CLIENT) -> None:
        self._in_all = in_all
        self._of_a_client = of_a_client
        self._clients: Counter[str] = Counter()

    @contextmanager
    def counted(self, client: str) -> Generator[None]:
        """While entered, one more for *client*. Raises GatewayError (429 or 503) at the limit."""
        if self._clients[client] >= self._of_a_client:
            raise _too_many(HTTPStatus.TOO_MANY_REQUESTS, "this client reads too many files at one time")
        if self._clients.total() >= self._in_all:
            raise _too_many(HTTPStatus.SERVICE_UNAVAILABLE, "too many files are read at one time")
        self._clients[client] += 1
        try:
            yield
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]


def _too_many(status: HTTPStatus, detail: str) -> GatewayError:
    return GatewayError(status, f"{detail}; try again later", code="busy", headers={"Retry-After": "5"})
