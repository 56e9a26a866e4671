"""A server that sends the very bytes it is given: for answers that no web framework would send."""

import asyncio
from contextlib import suppress
from typing import Self

__all__ = ["Stub", "reply"]


def reply(body: bytes | str, status: str = "200 OK", **headers: str) -> bytes:
    """A whole HTTP answer; header names are given with underscores."""
    content = body.encode() if isinstance(body, str) else body
    fields = {"content_type": "application/json", "content_length": str(len(content)), **headers}
    head = "".join(f"{name.replace('_', '-').title()}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + content


class Stub:
    """Answers the first request with the first of *replies*, and so on; the last one again and again.

    Each connection is closed after one answer; an answer that is None never comes. *requests* holds what was received,
    and *asked* is set as soon as there is something in it.
    """

    def __init__(self, *replies: bytes | None) -> None:
        self._replies = list(replies)
        self.requests: list[bytes] = []
        self.asked = asyncio.Event()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._connections: set[asyncio.StreamWriter] = set()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in tuple(self._connections):
            with suppress(AttributeError):  # as in relay.testing.conformance.byte_server
                writer.transport.abort()
        await self._server.wait_closed()

    @property
    def paths(self) -> list[str]:
        """The target of each request, in order."""
        return [request.split(b" ", 2)[1].decode() for request in self.requests]

    def next_answer(self, _target: str) -> bytes | None:
        """The answer to a request for this target."""
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
            self.requests.append(head + body)
            self.asked.set()
            answer = self.next_answer(head.split(b" ", 2)[1].decode())
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self._connections.discard(writer)
