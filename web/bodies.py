"""The body of a request, within limits, and as JSON."""

import asyncio
import codecs
import json
from asyncio import Timeout
from http import HTTPStatus
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import HttpVersion11
from aiohttp.web import AppKey, Request, RequestPayloadError

from web.memory import MemoryBudget
from web.middleware.problems import RequestError

__all__ = ["BODIES", "BODIES_LIMIT", "BODY_LIMIT", "BODY_SECONDS", "continue_later", "read_body", "read_json"]

BODY_LIMIT: Final = 1024 * 1024
BODY_SECONDS: Final = 30.0

BODIES_LIMIT: Final = 32 * BODY_LIMIT
"""Bytes of all bodies that are being received at one time."""

BODIES: Final = AppKey("bodies", MemoryBudget)

NESTING: Final = 200
"""Levels of nesting: far fewer than exhaust the stack of a parser or an encoder, here or at the upstream."""

CHECKED_AT_ONCE: Final = 64 * 1024
"""Bytes of a body whose keys are checked on the event loop, within 10 ms; a larger one is checked in a thread."""

VALUES: Final = 20_000
"""Values in a body: a parser blocks the event loop while it makes them, and 340,000 empty lists fit into a body."""

DIGITS: Final = 400
"""Digits of a number; the largest float has 309. The time to read a number grows with the square of its digits."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_DIGITS_ALONE: Final = bytes(byte if 48 <= byte <= 57 else 32 for byte in range(256))

_NO_UTF_8: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_TOO_DEEP: Final = f"the body is not JSON that can be decoded: it has more than {NESTING} levels"

T = TypeVar("T")


async def read_json(request: Request, shape: type[T]) -> T:
    """The JSON body, decoded as *shape*. Raises RequestError, which names the part that does not fit.

    The body is UTF-8, as RFC 8259 requires, with or without a byte order mark. No object may have a key twice: parsers
    differ in which of the two they use, and a submission costs money.
    """
    if request.content_type != "application/json":
        # A page of another origin cannot send this type without a preflight request, so a form cannot start paid work.
        raise RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body as Content-Type: application/json")
    body = (await read_body(request)).removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise _unfit("the body is empty, which is not JSON; send an object")
    if body.startswith(_NO_UTF_8) or b"\0" in body[:4]:
        raise _unfit("the body is not JSON in UTF-8, but in UTF-16 or UTF-32")
    if len(body) > CHECKED_AT_ONCE:
        _check_values(body)
    try:
        fitting = msgspec.json.decode(body, type=shape)
        if len(body) <= CHECKED_AT_ONCE:
            _check(body)
        else:
            await asyncio.to_thread(_check, body)
    except msgspec.ValidationError as error:
        raise _unfit(f"the body does not fit: {error}") from None
    except RecursionError:
        raise _unfit(_TOO_DEEP) from None
    except UnicodeDecodeError:
        raise _unfit("the body is not JSON in UTF-8") from None
    except ValueError:
        raise _unfit("the body is not JSON") from None
    return fitting


async def read_body(request: Request) -> bytes:
    """The body, at most BODY_LIMIT bytes, independent of the limit of an application around this one."""
    body = bytearray()
    try:
        if (request.content_length or 0) > BODY_LIMIT:
            raise _too_large()
        await _send_continue(request)
        async with asyncio.timeout(BODY_SECONDS) as patience:
            await _collect(request, body, patience)
    except TimeoutError:
        raise RequestError(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive in {BODY_SECONDS:.0f} s") from None
    except RequestPayloadError:
        raise _unfit("the body broke off, or is not framed as its header says") from None
    return bytes(body)


async def continue_later(_: Request) -> None:
    """An `expect_handler`: `100 Continue` is sent once the body is read, so that no client sends a refused body."""


class _IncomingBody:
    """A body that is being received, as a holder of the memory budget of all bodies."""

    def __init__(self, patience: Timeout) -> None:
        self.evicted = False
        self._patience = patience

    def evict(self) -> None:
        self.evicted = True
        self._patience.reschedule(asyncio.get_running_loop().time())


async def _collect(request: Request, body: bytearray, patience: Timeout) -> None:
    budget, arriving = request.app[BODIES], _IncomingBody(patience)
    try:
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > BODY_LIMIT:
                raise _too_large()
            budget.reserve(arriving, len(chunk))
    except asyncio.CancelledError:
        if arriving.evicted:
            raise RequestError(
                HTTPStatus.SERVICE_UNAVAILABLE, "too many large bodies arrive at one time", {"Retry-After": "10"}
            ) from None
        raise
    finally:
        budget.release(arriving)


async def _send_continue(request: Request) -> None:
    """[spec] RFC 9110, 10.1.1: a client that expects `100-continue` sends its body after `100 Continue`."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.version >= HttpVersion11:
        await request.writer.write(CONTINUE)
        # aiohttp regards any bytes written before as the beginning of the response.
        request.writer.output_size = 0


def _check_values(body: bytes) -> None:
    """Raises RequestError for more values, or longer numbers, than the event loop may decode."""
    # Outside of strings, which may hold any character: every other piece between two quotes that are not escaped.
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 4 * VALUES:
        raise _too_many_values()
    between = b"".join(bare.split(b'"')[::2])
    if sum(map(between.count, (b"[", b"{", b","))) > VALUES:
        raise _too_many_values()
    if max(map(len, between.translate(_DIGITS_ALONE).split()), default=0) > DIGITS:
        raise _unfit(f"the body has a number of more than {DIGITS} digits; send it as text")


def _check(body: bytes) -> None:
    """Raises RequestError for JSON that has a key twice in one object, or that is nested too deeply."""
    level: list[Any] = [json.loads(body, object_pairs_hook=_distinct)]
    for _ in range(NESTING):
        if not (level := [inner for outer in level for inner in _parts(outer)]):
            return
    raise _unfit(_TOO_DEEP)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise _unfit("the body names a key twice in one object; name each once")
    return named


def _parts(value: dict[str, Any] | list[Any] | str | float | None) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _unfit(detail: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, detail)


def _too_many_values() -> RequestError:
    return _unfit(f"the body has more than {VALUES:,} values")


def _too_large() -> RequestError:
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {BODY_LIMIT:,} bytes")
