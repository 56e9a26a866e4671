"""One attempt to post a webhook, and what the answer means: all of it, or a reason in one sentence without secrets."""

import asyncio
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from msgspec import Struct
from yarl import URL

from relay.queue import EndpointGone, RetryLater, Undeliverable
from sinks._guard import ATTEMPT, Attempt, ForbiddenAddressError

__all__ = ["ANSWER_LIMIT", "LATEST", "SOONEST", "Answer", "Poster", "judge", "retry_after"]

ANSWER_LIMIT: Final = 64 * 1024
"""The most bytes of an answer that are read; the connection of a longer one is dropped."""

SOONEST: Final = 5.0
LATEST: Final = 4 * 3_600.0
"""The bounds, in seconds, of the wait that a receiver may want with Retry-After, and of the back-off."""

_THROTTLES: Final = (429, 502, 503, 504)
_ABORT: Final = "abort-message"


class Answer(Struct, frozen=True):
    """What came back: a *status* with the two headers that matter, or a *problem* in place of an answer."""

    status: int = 0
    retry_after: str = ""
    delivery: str = ""
    problem: str = ""


def judge(answer: Answer, host: str, now: datetime) -> None:
    """Return if *answer* says that the delivery succeeded. *now* is in UTC.

    Raises RetryLater for what may succeed later, EndpointGone for 410, and Undeliverable if the receiver says that it
    will never accept this one message.
    """
    if answer.problem:
        raise RetryLater(answer.problem)
    status = answer.status
    if 200 <= status < 300:
        return
    if status == 410:
        raise EndpointGone(f"{host} answered 410 (gone)")
    if answer.delivery.strip().lower() == _ABORT:
        raise Undeliverable(f"{host} answered {status} and wants this message no more")
    if 300 <= status < 400:
        raise RetryLater(f"{host} answered {status}, a redirect, which is not followed; correct the url")
    after = retry_after(answer.retry_after, now) if status in _THROTTLES else None
    raise RetryLater(f"{host} answered {status}", after=after)


def retry_after(text: str, now: datetime) -> float | None:
    """The seconds to wait that a Retry-After header says, from SOONEST to LATEST; None if it says nothing.

    It is a number of seconds or a date (RFC 9110, 10.2.3), and a date may have passed already.
    """
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        seconds = float(text)
    else:
        try:
            date = parsedate_to_datetime(text)
        except (ValueError, TypeError, OverflowError):
            return None
        if date.tzinfo is None:  # a date with the zone -0000
            date = date.replace(tzinfo=UTC)
        seconds = (date - now).total_seconds()
    return min(max(SOONEST, seconds), LATEST)


class Poster:
    """Posts to one *url* over *connector*, which it owns. An attempt takes *timeout* seconds at most.

    Redirects are not followed, cookies are not kept, proxy variables of the environment are not read: through a proxy,
    the guard of the connector would see the proxy alone. As many attempts are under way as the connector has
    connections; the others wait before their time begins, for aiohttp counts that wait as a part of it.
    """

    def __init__(self, url: URL, connector: aiohttp.TCPConnector, *, timeout: float) -> None:
        self._url = url
        self._host = host_of(url)
        self._timeout = timeout
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        self.free: asyncio.Semaphore = asyncio.Semaphore(connector.limit)
        """Acquire it around `post`, and before what the attempt signs is made"""

    async def close(self) -> None:
        """End what is under way, and release all connections."""
        await self._session.close()

    async def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post once. It raises nothing of aiohttp's: those errors carry the URL and the headers of the request.

        A receiver closes a kept connection whenever it likes, at times just when it is used again. Nobody is to blame,
        so the request is sent once more at once, within the same time.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._timeout
        for last in (False, True):
            attempt = Attempt()
            ATTEMPT.set(attempt)
            try:
                return await self._exchange(body, headers, _total(end - loop.time()))
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if isinstance(error, aiohttp.ClientConnectorError) or attempt.connects or last:
                    return Answer(problem=problem_of(error, self._host, self._timeout))
            except (aiohttp.ClientError, aiohttp.http.HttpProcessingError, OSError, ValueError) as error:
                return Answer(problem=problem_of(error, self._host, self._timeout))
        raise AssertionError("the last attempt returns")

    async def _exchange(self, body: bytes, headers: Mapping[str, str], limit: aiohttp.ClientTimeout) -> Answer:
        async with self._session.post(
            self._url,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=limit,
        ) as response:
            await _read_to_end(response)
            found = response.headers
            return Answer(response.status, found.get("Retry-After", ""), found.get("webhook-delivery", ""))


def _total(seconds: float) -> aiohttp.ClientTimeout:
    """A limit for the whole exchange: a receiver that sends a byte now and then ends as well."""
    return aiohttp.ClientTimeout(total=max(0.001, seconds))


async def _read_to_end(response: aiohttp.ClientResponse) -> None:
    """Read what is left of the answer, so that the connection can be kept; of a long one, drop the connection."""
    read = 0
    while chunk := await response.content.readany():
        read += len(chunk)
        if read > ANSWER_LIMIT:
            response.close()
            return


def host_of(url: URL) -> str:
    """The host of *url*, and its port unless it is the usual one: what a message may say of a URL."""
    return url.host_port_subcomponent or "" if url.explicit_port else url.host_subcomponent or ""


def problem_of(error: Exception, host: str, timeout: float) -> str:
    """What *error* of aiohttp, which came in place of an answer of *host*, means in words that it does not choose."""
    forbidden = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    match error:
        case _ if isinstance(forbidden, ForbiddenAddressError):
            return f"nothing was sent to {host}: {forbidden}; if that is meant, say allow_private = true"
        case TimeoutError():
            return f"no whole answer from {host} within {timeout:g} s"
        case aiohttp.ClientConnectorDNSError():
            return f"the name of {host} could not be resolved"
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLCertVerificationError() as reason):
            return f"no secure connection to {host}: {reason.verify_message}"
        case aiohttp.ClientSSLError():
            return f"no secure connection to {host}; check that it speaks TLS at this port"
        case aiohttp.ClientConnectorError():
            return f"no connection to {host}; check that it runs at this address"
        case aiohttp.ClientResponseError() | aiohttp.http.HttpProcessingError():
            return f"the answer of {host} is not valid HTTP"
        case aiohttp.ClientPayloadError():
            return f"the answer of {host} broke off before its end"
        case aiohttp.InvalidURL() | ValueError():
            return f"nothing was sent to {host}: the request is not valid; check url and headers"
        case _:
            return f"{host} closed the connection without a whole answer"
