"""A form with files (`multipart/form-data`), within limits.

[measured] The SDKs of OpenAI send every `videos.create` as such a form, also without a file, and each value as text.
"""

import asyncio
import warnings
from http import HTTPStatus
from typing import Final, TypeGuard

from aiohttp import BodyPartReader, MultipartReader, StreamReader
from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import parse_mimetype
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.web import Request
from msgspec import Struct

from web.bodies import BODY_LIMIT, read_body
from web.gateway.errors import GatewayError

__all__ = ["FILE_LIMIT", "FORM", "TEXT_LIMIT", "Form", "read_form"]

FORM: Final = "multipart/form-data"

PARTS: Final = 64
NAME_LIMIT: Final = 128
TEXT_LIMIT: Final = 64 * 1024
"""Bytes of one field without a file name."""

FILE_LIMIT: Final = 640 * 1024
"""Bytes of one file: as base64 within JSON it has to fit into a request to the upstream, which has BODY_LIMIT."""

_CHUNK: Final = 64 * 1024
_HEADERS: Final = 8
_HEADER_LIMIT: Final = 2_048
_AS_IT_IS: Final = ("", "7bit", "8bit", "binary")


class Form(Struct, frozen=True):
    """The *fields* of a form by name, and the contents of its *files*."""

    fields: dict[str, str]
    files: dict[str, bytes]


async def read_form(request: Request) -> Form:
    """The body as a form. Raises GatewayError (400) if it is none within the limits, and RequestError as `read_body`.

    A page of another origin can send a form without a preflight request, and a form starts paid work here. Every
    browser since Firefox 70 sends `Origin` or `Sec-Fetch-Site` with a form, by which the relay has refused the request
    before; a browser that sends neither is refused here.
    """
    if _is_of_an_old_browser(request):
        raise GatewayError(
            HTTPStatus.FORBIDDEN, "a browser that sends no Origin may send no form; send JSON", code="foreign_origin"
        )
    body = (await read_body(request)).removeprefix(b"\r\n")
    boundary = parse_mimetype(request.headers.get("Content-Type", "")).parameters.get("boundary")
    # aiohttp reads the lines before the first boundary one by one, 120,000 of them in a second; a form has none.
    if not boundary or not body.startswith(f"--{boundary}\r\n".encode()):
        raise _unfit("the form does not begin with its boundary")
    try:
        # Nothing below waits, so no other task runs while warnings are off: about a header that is not well-formed.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader = MultipartReader(request.headers, _reader(body), max_headers=_HEADERS, max_field_size=_HEADER_LIMIT)
            return await _fields(reader)
    except (ValueError, AssertionError, RuntimeError, LookupError, BadHttpMessage):
        raise _unfit("the body is not a form that can be read") from None


async def _fields(reader: MultipartReader) -> Form:
    form = Form({}, {})
    for _ in range(PARTS + 1):
        part = await reader.next()
        if part is None:
            return form
        name = part.name if isinstance(part, BodyPartReader) else None
        if not isinstance(part, BodyPartReader) or not _is_usable(name):
            raise _unfit(f"each part of a form has a name of at most {NAME_LIMIT} printable characters")
        if name in form.fields or name in form.files:
            raise _unfit("the form names a field twice; name each once")
        if part.headers.get("Content-Transfer-Encoding", "").lower() not in _AS_IT_IS:
            raise _unfit("send the parts of a form without a Content-Transfer-Encoding")
        if part.filename is None:
            form.fields[name] = (await _content(part, name, TEXT_LIMIT)).decode("utf-8")
        else:
            form.files[name] = await _content(part, name, FILE_LIMIT)
    raise _unfit(f"a form has at most {PARTS} parts")


async def _content(part: BodyPartReader, name: str, limit: int) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(_CHUNK):
        content += chunk
        if len(content) > limit:
            raise GatewayError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"this part of a form has at most {limit:,} bytes",
                code="too_large",
                param=name,
            )
    return bytes(content)


def _reader(body: bytes) -> StreamReader:
    """*body* as aiohttp reads one from a connection."""
    loop = asyncio.get_running_loop()
    reader = StreamReader(BaseProtocol(loop), BODY_LIMIT, loop=loop)
    reader.feed_data(body)
    reader.feed_eof()
    return reader


def _is_usable(name: str | None) -> TypeGuard[str]:
    # Bytes that are not UTF-8 are surrogates in a header of aiohttp's, which are not printable.
    return name is not None and 0 < len(name) <= NAME_LIMIT and name.isprintable()


def _is_of_an_old_browser(request: Request) -> bool:
    named = "Origin" in request.headers or "Sec-Fetch-Site" in request.headers
    return not named and request.headers.get("User-Agent", "").startswith("Mozilla/")


def _unfit(detail: str) -> GatewayError:
    return GatewayError(HTTPStatus.BAD_REQUEST, detail, code="invalid_form")
