"""What every scripted upstream is: an HTTP server on loopback, started on entering and stopped on leaving."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from aiohttp.web import Application, AppRunner, Response, TCPSite

from relay import UsageError

__all__ = ["FILE", "PAGE", "RETRY_AFTER", "LoopbackServer", "answer"]

RETRY_AFTER: Final = 5
"""The seconds that a scripted rate limit asks to wait."""

PAGE: Final = (
    "<!DOCTYPE html>\n<html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>\n"
)
"""The page that stands in the way while an account is challenged."""

# ISO/IEC 14496-12: a file type box and an empty media data box. It is a file to download, and shows nothing.
FILE: Final = b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2" + b"\0\0\0\x08mdat"


class LoopbackServer(ABC):
    """A server that lives as long as it is entered. Entering raises UsageError where the port cannot be had."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._origin = ""
        self._runner: AppRunner | None = None

    @abstractmethod
    def _application(self) -> Application:
        """The application that is served."""

    @property
    def origin(self) -> str:
        """The address of the server, without a path. Raises UsageError before the server is entered."""
        if not self._origin:
            raise UsageError("the scripted upstream has no address yet; enter it with 'async with' first")
        return self._origin

    async def __aenter__(self) -> Self:
        self._runner = AppRunner(self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        try:
            await TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise UsageError(
                f"the scripted upstream cannot listen on {self._host}:{self._port}: {error.strerror}; try --port 0"
            ) from None
        host, port = self._runner.addresses[0][:2]
        self._origin = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


def answer(body: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """*body* as JSON. NaN and Infinity are written as they are: that JSON forbids them has kept nobody from it."""
    return Response(status=status, text=json.dumps(body), content_type="application/json", headers=headers)
