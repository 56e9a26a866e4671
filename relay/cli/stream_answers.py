"""What an answer of a relay says beside its stream: how often it gives a sign of life, when to try again, why not."""

import asyncio
import os
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from relay.text import bounded

__all__ = ["ANSWERS_WITHIN", "QUOTE_LIMIT", "detail_of", "heartbeat_of", "object_in", "reason_of", "wait_of", "within"]

ANSWERS_WITHIN: Final = 30.0
"""Seconds until a relay has to have begun its answer."""

HEARTBEAT: Final = 15.0
"""Seconds between signs of life, where the relay does not say. Twice as long without one is a lost connection."""

LONGEST_ASKED: Final = 300
"""The most seconds to wait because an answer asks for that."""

QUOTE_LIMIT: Final = 200

T = TypeVar("T")


async def within(seconds: float, awaitable: Awaitable[T]) -> T:
    """What *awaitable* gives. Raises TimeoutError after so many *seconds*."""
    async with asyncio.timeout(seconds):
        return await awaitable


def heartbeat_of(response: aiohttp.ClientResponse) -> float:
    try:
        seconds = float(response.headers.get("Relay-Heartbeat", HEARTBEAT))
    except ValueError:
        return HEARTBEAT
    return seconds if 0 < seconds <= 86_400 else HEARTBEAT


def wait_of(response: aiohttp.ClientResponse) -> float:
    """The seconds until the next request, as the relay says (`Retry-After`), 0 where it does not."""
    text = response.headers.get("Retry-After", "")
    return min(int(text), LONGEST_ASKED) if text.isascii() and text.isdecimal() and len(text) < 10 else 0


async def detail_of(response: aiohttp.ClientResponse) -> str:
    """What the answer says itself about what is wrong, if it says so as a relay does."""
    body = await within(ANSWERS_WITHIN, response.content.read(4_096))
    detail = object_in(body).get("detail")
    return f": {bounded(detail, QUOTE_LIMIT)}" if isinstance(detail, str) else ""


def reason_of(error: Exception) -> str:
    """Why a connection is lost, in few words."""
    match error:
        case TimeoutError():
            return "nothing comes any more"
        case aiohttp.ClientConnectorDNSError():
            return "no such name"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return "no secure connection"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))):
            return os.strerror(number)
        case aiohttp.ClientPayloadError():
            return "it broke off"
        case _:
            return bounded(str(error), QUOTE_LIMIT) or type(error).__name__


def object_in(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
