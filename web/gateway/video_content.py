"""`GET /v1/videos/{video}/content`: the file of a video, passed on from the upstream, or as a redirect to it."""

import asyncio
import re
from http import HTTPStatus
from typing import Final

from aiohttp.web import Request, Response, StreamResponse

from relay import Done, Job, UpstreamError
from relay.upstreams.http.downloads import Download
from web.access.addresses import client_of
from web.app_keys import RELAY
from web.gateway.errors import GatewayError
from web.gateway.gateway import GATEWAY
from web.gateway.requests import about
from web.gateway.video_object import video_status
from web.gateway.videos import requested_job

__all__ = ["video_content"]

READ_WITHIN: Final = 120.0
"""Seconds in which a client has to read some of what was sent to it: a player that pauses reads nothing for a while."""

_EXTENSIONS: Final = {
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "image/gif": ".gif",
    "image/jpeg": ".jpg",
    "image/png": ".png",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
}
"""The types that a file is sent as. A browser runs nothing in them, as it would in HTML or SVG."""

_ANY_TYPE: Final = "application/octet-stream"
_RANGE: Final = re.compile(r"bytes=(?:[0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})")
_VALIDATOR: Final = re.compile(r"[\x20-\x7e]{1,256}")
_VALIDATORS: Final = ("ETag", "Last-Modified")

_CODES: Final = {
    "not-found": "file_not_found",
    "auth": "upstream_unauthorized",
    "refused": "file_refused",
    "malformed": "file_malformed",
}
"""The codes of failures that last; any other is `file_unavailable`, and a client may repeat its request."""


async def video_content(request: Request) -> StreamResponse:
    """The file of a completed video: the whole, or the one range that the client requests.

    404 if the video is not completed, or has no such `variant`. An error after the first byte ends the connection, so
    that no client takes a part for the whole.
    """
    gateway, relay, job = request.app[GATEWAY], request.app[RELAY], requested_job(request)
    url, media_type = _file(job, request.query.get("variant", "video"))
    upstream = relay.upstreams.get(job.state.upstream)
    try:
        if gateway.settings.content == "redirect" and (there := gateway.downloads.redirect_for(url, upstream)):
            return Response(status=HTTPStatus.FOUND, headers={**about(job), "Location": there})
        with gateway.transfers.counted(client_of(request)):
            limit = gateway.settings.content_bytes
            async with gateway.downloads.open(url, upstream, headers=_asked(request), limit=limit) as download:
                return await _pass_on(request, job, download, media_type)
    except UpstreamError as error:
        raise _refusal(job, error) from None


async def _pass_on(request: Request, job: Job, download: Download, media_type: str) -> StreamResponse:
    response = StreamResponse(status=download.status, headers=_headers(job, download, media_type))
    if download.length is not None:
        response.content_length = download.length
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async for chunk in download.chunks():
            async with asyncio.timeout(READ_WITHIN):
                await response.write(chunk)
    except (UpstreamError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
    return response


def _asked(request: Request) -> dict[str, str]:
    """The headers of a request for a part. Another form of range is passed over, which RFC 9110, 14.2 allows."""
    value = request.headers.get("Range", "")
    if not _RANGE.fullmatch(value):
        return {}
    validator = request.headers.get("If-Range", "")
    return {"Range": value} | ({"If-Range": validator} if _VALIDATOR.fullmatch(validator) else {})


def _headers(job: Job, download: Download, media_type: str) -> dict[str, str]:
    """The headers of the answer: none is passed on as the upstream sent it, unless it can do no harm."""
    sent = download.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    safe = next((kind for kind in (sent, media_type) if kind in _EXTENSIONS), _ANY_TYPE)
    headers = {
        **about(job),
        "Content-Type": safe,
        "Content-Disposition": f'attachment; filename="{job.id}{_EXTENSIONS.get(safe, ".bin")}"',
    }
    if download.range is not None and download.status != HTTPStatus.OK:
        headers["Content-Range"] = str(download.range)
    if download.status == HTTPStatus.PARTIAL_CONTENT or download.headers.get("Accept-Ranges") == "bytes":
        headers["Accept-Ranges"] = "bytes"
    for name in _VALIDATORS:
        if _VALIDATOR.fullmatch(value := download.headers.get(name, "")):
            headers[name] = value
    return headers


def _file(job: Job, variant: str) -> tuple[str, str]:
    """The address of the file, and its media type as far as the record has it. Raises GatewayError (404)."""
    done = job.state.terminal
    if not isinstance(done, Done):
        detail = f"the video is {video_status(job.state)}, and has no file; GET /v1/videos/{job.id} has its state"
        raise _missing(detail, "video_not_ready" if done is None else "video_failed")
    files = [(url, done.media_types[n] if n < len(done.media_types) else "") for n, url in enumerate(done.urls)]
    match variant:
        case "video":
            videos = [file for file in files if file[1].startswith("video/")]
            found = (videos or files)[:1]
        case "thumbnail":
            found = [file for file in files if file[1].startswith("image/")][:1] if len(files) > 1 else []
        case _:
            found = []
    if not found:
        raise _missing(f"the video has no such file; its result is {len(files)} files", "variant_not_found", "variant")
    return found[0]


def _missing(detail: str, code: str, param: str | None = None) -> GatewayError:
    return GatewayError(HTTPStatus.NOT_FOUND, detail, code=code, param=param)


def _refusal(job: Job, error: UpstreamError) -> GatewayError:
    code = _CODES.get(error.kind)
    status = HTTPStatus.NOT_FOUND if error.kind == "not-found" else HTTPStatus.BAD_GATEWAY
    headers = about(job) | ({"x-should-retry": "false"} if code is not None else {})
    return GatewayError(status, error.message, code=code or "file_unavailable", param=job.id, headers=headers)
