"""The file of a video, passed on: in parts, within limits, and from no address that an upstream may not lead to."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientPayloadError, ClientSession
from msgspec import Struct

from relay import Cancelled, Done, Job, Relay
from relay.config.settings import GatewaySettings
from relay.testing import ManualClock
from relay.upstreams import OpenAIVideos
from tests.web.gateway.files import BYTES, FileServer, file_server
from tests.web.serving import serve_app
from web import create_app

SECRET = "sk-of-the-upstream"


class House(Struct, frozen=True):
    """A relay, its upstream, which serves files too, and another server of files."""

    client: ClientSession
    relay: Relay
    own: FileServer
    other: FileServer

    def video(self, *urls: str, **more: Any) -> str:
        """The path of the content of a video that has just been completed with these files."""
        job = self.running()
        self.relay.bus.publish(job, Done(urls=urls, **more))
        return f"/v1/videos/{job.id}/content"

    def running(self) -> Job:
        return self.relay.follow("openai-videos", f"t{len(self.relay.jobs())}")


@asynccontextmanager
async def house(folder: Path, **gateway: Any) -> AsyncGenerator[House]:
    async with file_server(folder) as own, file_server(folder) as other:
        upstream = OpenAIVideos(f"{own.origin}/v1", SECRET, clock=ManualClock())
        relay = Relay([upstream], clock=ManualClock(), new_job_id=iter(f"job_{n}" for n in range(99)).__next__)
        app = create_app(relay, gateway=GatewaySettings(**gateway))
        async with serve_app(app, handler_cancellation=True) as client:
            yield House(client, relay, own, other)


async def refused(client: ClientSession, path: str, **options: Any) -> tuple[int, str]:
    async with client.get(path, **options) as response:
        error = (await response.json())["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return response.status, error["code"]


async def test_a_file_at_the_upstream_is_passed_on_with_its_token_and_without_its_headers(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        path = it.video(f"{it.own.origin}/v1/videos/t/content")
        async with it.client.get(path, headers={"Accept": "application/binary", "Cookie": "a=b"}) as response:
            body = await response.read()

        assert (response.status, body) == (200, BYTES)
        assert {name: response.headers[name] for name in ("Content-Type", "Content-Length", "Content-Disposition")} == {
            "Content-Type": "video/mp4",
            "Content-Length": "256000",
            "Content-Disposition": 'attachment; filename="job_0.mp4"',
        }
        assert (response.headers["X-Content-Type-Options"], response.headers["X-Relay-Job"]) == ("nosniff", "job_0")
        sent = it.own.requests[0].headers
        assert (sent["Authorization"], sent["Accept-Encoding"]) == (f"Bearer {SECRET}", "identity")
        assert "Cookie" not in sent


async def test_a_file_elsewhere_receives_no_token(tmp_path: Path) -> None:
    async with house(tmp_path, allow_private=True) as it:
        assert await (await it.client.get(it.video(f"{it.other.origin}/file"))).read() == BYTES
        assert "Authorization" not in it.other.requests[0].headers


async def test_a_redirect_from_the_upstream_to_elsewhere_carries_no_token(tmp_path: Path) -> None:
    async with house(tmp_path, allow_private=True) as it:
        there = quote(f"{it.other.origin}/file", safe="")
        assert await (await it.client.get(it.video(f"{it.own.origin}/redirect?to={there}"))).read() == BYTES
        assert it.own.requests[0].headers["Authorization"] == f"Bearer {SECRET}"
        assert "Authorization" not in it.other.requests[0].headers


async def test_a_redirect_from_elsewhere_to_the_upstream_is_followed_with_the_token(tmp_path: Path) -> None:
    async with house(tmp_path, allow_private=True) as it:
        there = quote(f"{it.own.origin}/v1/videos/t/content", safe="")
        assert await (await it.client.get(it.video(f"{it.other.origin}/redirect?to={there}"))).read() == BYTES
        assert "Authorization" not in it.other.requests[0].headers


async def test_an_address_is_requested_as_it_was_signed(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        await (await it.client.get(it.video(f"{it.own.origin}/file?sig=%7e%2F+%41&x=a%20b"))).read()
        assert it.own.requests[0].raw_path == "/file?sig=%7e%2F+%41&x=a%20b"


PRIVATE = [
    "http://127.0.0.1:{port}/file",
    "http://localhost:{port}/file",
    "http://127.1:{port}/file",
    "http://2130706433:{port}/file",
    "http://0x7f000001:{port}/file",
    "http://0177.0.0.1:{port}/file",
    "http://127.0.0.1.:{port}/file",
    "http://0.0.0.0:{port}/file",
    "http://[::1]:{port}/file",
    "http://[::ffff:127.0.0.1]:{port}/file",
    "http://\uff11\uff12\uff17.0.0.1:{port}/file",
    "http://169.254.169.254/latest/meta-data",
]


@pytest.mark.parametrize("url", PRIVATE)
@pytest.mark.parametrize("redirected", [False, True])
async def test_a_private_address_is_not_connected_to(tmp_path: Path, url: str, redirected: bool) -> None:
    async with house(tmp_path) as it:
        there = url.format(port=it.other.origin.rpartition(":")[2])
        path = it.video(f"{it.own.origin}/redirect?to={quote(there, safe='')}" if redirected else there)
        async with it.client.get(path) as response:
            error = (await response.json())["error"]

        assert (response.status, error["code"]) == (502, "file_refused")
        assert response.headers["x-should-retry"] == "false"
        assert SECRET not in str(error)
        assert it.other.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://h.example/file",
        "https://user:word@h.example/file",
        "https://:word@h.example/file",
        "https:///file",
        "https://h.example:99999/file",
        "gopher://127.0.0.1:1/_x",
        "data:video/mp4;base64,AAAA",
        "/file",
    ],
)
@pytest.mark.parametrize("content", ["proxy", "redirect"])
async def test_only_http_addresses_are_followed(tmp_path: Path, url: str, content: str) -> None:
    async with house(tmp_path, content=content) as it:
        assert await refused(it.client, it.video(url)) == (502, "file_refused")


async def test_a_relative_redirect_is_followed_and_an_endless_chain_is_not(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        assert await (await it.client.get(it.video(f"{it.own.origin}/redirect?to=/file"))).read() == BYTES
        await asyncio.sleep(0)
        it.own.requests.clear()
        circle = quote("/redirect?to=", safe="")
        assert await refused(it.client, it.video(f"{it.own.origin}/redirect?to={circle}")) == (502, "file_refused")


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-9", 206, BYTES[:10], "bytes 0-9/256000"),
        ("bytes=255990-", 206, BYTES[-10:], "bytes 255990-255999/256000"),
        ("bytes=-10", 206, BYTES[-10:], "bytes 255990-255999/256000"),
        ("bytes=256000-", 416, b"", "bytes */256000"),
        ("bytes=0-1,5-6", 200, BYTES, None),
        ("bytes=x-", 200, BYTES, None),
        ("items=0-1", 200, BYTES, None),
    ],
)
async def test_one_range_is_passed_on_and_any_other_form_is_the_whole(
    tmp_path: Path, wanted: str, status: int, body: bytes, content_range: str | None
) -> None:
    async with house(tmp_path) as it:
        response = await it.client.get(it.video(f"{it.own.origin}/file"), headers={"Range": wanted})

        assert (response.status, await response.read()) == (status, body)
        assert response.headers.get("Content-Range") == content_range


async def test_a_download_goes_on_where_it_stopped_while_the_file_is_the_same(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        path, wanted = it.video(f"{it.own.origin}/file"), {"Range": "bytes=255999-"}
        first = await it.client.get(path)
        same = await it.client.get(path, headers={**wanted, "If-Range": first.headers["Last-Modified"]})
        older = await it.client.get(path, headers={**wanted, "If-Range": "Thu, 01 Jan 2015 00:00:00 GMT"})

        assert "ETag" in first.headers
        assert (same.status, await same.read()) == (206, BYTES[-1:])
        assert (older.status, await older.read()) == (200, BYTES)


async def test_head_has_the_headers_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as it, it.client.head(it.video(f"{it.own.origin}/file")) as response:
        assert (response.status, response.headers["Content-Length"], await response.read()) == (200, "256000", b"")


async def test_a_page_is_sent_as_bytes_to_be_stored_and_none_of_its_headers_is(tmp_path: Path) -> None:
    async with house(tmp_path) as it, it.client.get(it.video(f"{it.own.origin}/page")) as response:
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["Content-Disposition"] == 'attachment; filename="job_0.bin"'
        assert {"Set-Cookie", "Refresh"} & set(response.headers) == set()


@pytest.mark.parametrize("bad", ["short", "endless"])
async def test_a_client_never_takes_a_part_for_the_whole(tmp_path: Path, bad: str) -> None:
    async with house(tmp_path, content_bytes=50_000) as it:
        response = await it.client.get(it.video(f"{it.own.origin}/{bad}"))
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_an_endless_file_is_given_up_at_the_limit(tmp_path: Path) -> None:
    async with house(tmp_path, content_bytes=50_000) as it:
        read = 0
        async with it.client.get(it.video(f"{it.own.origin}/endless")) as response:
            with suppress(ClientPayloadError):
                async for chunk in response.content.iter_any():
                    read += len(chunk)
        await it.own.left.wait()

        assert read <= 50_000


async def test_bytes_beyond_the_named_length_are_not_passed_on(tmp_path: Path) -> None:
    async with house(tmp_path) as it, it.client.get(it.video(f"{it.own.origin}/long")) as response:
        body = await response.read()

    # If all bytes arrive at once, aiohttp refuses them all.
    assert body == bytes(10) or b"file_malformed" in body


@pytest.mark.parametrize("bad", ["huge", "packed", "status/304", "status/204", "part?range=bytes+0-9/10"])
async def test_an_answer_that_is_no_file_within_the_limit_is_refused(tmp_path: Path, bad: str) -> None:
    async with house(tmp_path) as it:
        assert await refused(it.client, it.video(f"{it.own.origin}/{bad}")) == (502, "file_malformed")


@pytest.mark.parametrize(
    "part", ["", "bytes 0-8/10", "bytes 9-0/10", "bytes */10", "items 0-9/10", "bytes 0-9/1000000000000"]
)
async def test_a_part_that_contradicts_itself_is_refused(tmp_path: Path, part: str) -> None:
    async with house(tmp_path) as it:
        path = it.video(f"{it.own.origin}/part?range={quote(part)}")
        assert await refused(it.client, path, headers={"Range": "bytes=0-9"}) == (502, "file_malformed")


@pytest.mark.parametrize(
    ("status", "own", "other"),
    [
        (401, (502, "upstream_unauthorized"), (404, "file_not_found")),
        (403, (502, "upstream_unauthorized"), (404, "file_not_found")),
        (404, (404, "file_not_found"), (404, "file_not_found")),
        (410, (404, "file_not_found"), (404, "file_not_found")),
        (429, (502, "file_unavailable"), (502, "file_unavailable")),
        (500, (502, "file_unavailable"), (502, "file_unavailable")),
    ],
)
async def test_a_refusal_of_the_upstream_is_an_error_with_a_code(
    tmp_path: Path, status: int, own: tuple[int, str], other: tuple[int, str]
) -> None:
    async with house(tmp_path, allow_private=True) as it:
        assert await refused(it.client, it.video(f"{it.own.origin}/status/{status}")) == own
        assert await refused(it.client, it.video(f"{it.other.origin}/status/{status}")) == other


async def test_a_server_that_is_not_there_is_an_error_that_may_pass(tmp_path: Path) -> None:
    async with house(tmp_path, allow_private=True) as it:
        response = await it.client.get(it.video("http://127.0.0.1:1/file"))

        assert (response.status, (await response.json())["error"]["code"]) == (502, "file_unavailable")
        assert "x-should-retry" not in response.headers


async def test_a_client_that_leaves_ends_the_download(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        path = it.video(f"{it.own.origin}/endless")
        async with ClientSession(it.client._base_url) as leaving, leaving.get(path) as response:
            await response.content.readany()
        await it.own.left.wait()


async def test_a_client_that_reads_nothing_is_disconnected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.gateway.video_content.READ_WITHIN", 0.05)
    async with house(tmp_path) as it:
        path = it.video(f"{it.own.origin}/endless")
        url = it.client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port, limit=1024)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await it.own.left.wait()
        writer.close()
        assert reader.exception() is None or isinstance(reader.exception(), ConnectionError)


async def test_a_video_without_a_file_is_404(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        running, cancelled = it.running(), it.running()
        it.relay.bus.publish(cancelled, Cancelled(by="caller"))

        assert await refused(it.client, f"/v1/videos/{running.id}/content") == (404, "video_not_ready")
        assert await refused(it.client, f"/v1/videos/{cancelled.id}/content") == (404, "video_failed")
        assert await refused(it.client, it.video(result="a text")) == (404, "variant_not_found")
        assert await refused(it.client, "/v1/videos/job_x/content") == (404, "not_found")


async def test_a_variant_is_a_file_of_its_kind_and_404_where_there_is_none(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        files = (f"{it.own.origin}/page", f"{it.own.origin}/file")
        both = it.video(*files, media_types=("image/png", "video/mp4"))
        alone = it.video(files[1])

        assert await (await it.client.get(both)).read() == BYTES
        assert (await it.client.get(f"{both}?variant=video")).headers["Content-Type"] == "video/mp4"
        # A type that the record has counts where the server names one that is not sent.
        assert (await it.client.get(f"{both}?variant=thumbnail")).headers["Content-Type"] == "image/png"
        assert await refused(it.client, f"{both}?variant=spritesheet") == (404, "variant_not_found")
        assert await refused(it.client, f"{alone}?variant=thumbnail") == (404, "variant_not_found")


async def test_a_redirect_is_sent_instead_unless_the_file_needs_the_token(tmp_path: Path) -> None:
    async with house(tmp_path, content="redirect") as it:
        elsewhere = await it.client.get(it.video("https://h.example/v.mp4?sig=%7e"), allow_redirects=False)
        own = await it.client.get(it.video(f"{it.own.origin}/file"), allow_redirects=False)

        assert (elsewhere.status, elsewhere.headers["Location"]) == (302, "https://h.example/v.mp4?sig=%7e")
        assert (own.status, await own.read()) == (200, BYTES)


async def test_so_many_files_are_passed_on_at_one_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.gateway.transfers.Transfers.__init__.__defaults__", (3, 2))
    async with house(tmp_path) as it:
        path = it.video(f"{it.own.origin}/slow")
        async with it.client.get(path), it.client.get(path):
            busy = await it.client.get(path)
            assert (busy.status, busy.headers["Retry-After"]) == (429, "5")
        await it.own.left.wait()
