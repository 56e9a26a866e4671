"""A server of files on loopback, good and bad ones, which keeps the requests that it has received."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp.web import Application, AppRunner, FileResponse, Request, Response, StreamResponse, TCPSite

__all__ = ["BYTES", "FileServer", "file_server"]

BYTES = bytes(range(256)) * 1_000


class FileServer:
    """The *origin* of the server, and the *requests* so far."""

    def __init__(self, folder: Path) -> None:
        self.origin = ""
        self.requests: list[Request] = []
        self.left = asyncio.Event()
        """Set once the reader of /slow or /endless has left."""
        self._path = folder / "video.mp4"
        self._path.write_bytes(BYTES)

    def app(self) -> Application:
        app = Application()
        app.router.add_get("/v1/videos/t/content", self._file)
        app.router.add_get("/file", self._file)
        app.router.add_get("/redirect", self._redirect)
        app.router.add_get("/status/{status}", self._status)
        app.router.add_get("/short", self._short)
        app.router.add_get("/long", self._long)
        app.router.add_get("/huge", self._huge)
        app.router.add_get("/slow", self._slow)
        app.router.add_get("/endless", self._endless)
        app.router.add_get("/packed", self._packed)
        app.router.add_get("/page", self._page)
        app.router.add_get("/part", self._part)
        return app

    async def _file(self, request: Request) -> StreamResponse:
        self.requests.append(request)
        return FileResponse(self._path)

    async def _redirect(self, request: Request) -> StreamResponse:
        self.requests.append(request)
        return Response(status=302, headers={"Location": request.query["to"]})

    async def _status(self, request: Request) -> StreamResponse:
        return Response(status=int(request.match_info["status"]))

    async def _short(self, request: Request) -> StreamResponse:
        """Names more bytes than it sends."""
        return await _written(request, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(10))

    async def _long(self, request: Request) -> StreamResponse:
        """Sends more bytes than it names."""
        return await _written(request, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + bytes(100))

    async def _huge(self, request: Request) -> StreamResponse:
        return await _written(request, b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + bytes(10))

    async def _slow(self, request: Request) -> StreamResponse:
        response = StreamResponse(headers={"Content-Type": "video/mp4", "Content-Length": "100"})
        await response.prepare(request)
        await response.write(bytes(10))
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        return response

    async def _endless(self, request: Request) -> StreamResponse:
        response = StreamResponse(headers={"Content-Type": "video/mp4"})
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(10_000))
        finally:
            self.left.set()

    async def _packed(self, request: Request) -> StreamResponse:
        return Response(body=b"x", headers={"Content-Encoding": "gzip"})

    async def _page(self, request: Request) -> StreamResponse:
        headers = {"Content-Disposition": "inline; filename=x.html", "Set-Cookie": "a=b", "Refresh": "0"}
        return Response(text="<script>alert(1)</script>", content_type="text/html", headers=headers)

    async def _part(self, request: Request) -> StreamResponse:
        """Bytes that the Content-Range in the query names, whatever was requested."""
        return Response(status=206, body=bytes(10), headers={"Content-Range": request.query["range"]})


async def _written(request: Request, answer: bytes) -> StreamResponse:
    """*answer* byte for byte, and the end of the connection."""
    assert request.transport is not None
    request.transport.write(answer)
    request.transport.close()
    return Response()


@asynccontextmanager
async def file_server(folder: Path, host: str = "127.0.0.1") -> AsyncGenerator[FileServer]:
    """A server of the files in *folder*, on a port of its own."""
    server = FileServer(folder)
    runner = AppRunner(server.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await TCPSite(runner, host, 0).start()
        server.origin = f"http://{host}:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
