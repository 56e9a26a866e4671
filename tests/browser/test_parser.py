"""The client reads a stream as the specification has it, however it is cut into pieces."""

import json
from typing import Any

import pytest
from playwright.async_api import Page

from relay.testing import sample_records
from sinks import frame
from tests.browser.house import open_house
from tests.browser.visit import Visit

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

_PARSE = """
async ([bytes, size]) => {
  const { Parser } = await import("/static/event-stream.js");
  const parser = new Parser();
  const blocks = [];
  for (let at = 0; at < bytes.length; at += size) {
    blocks.push(...parser.push(new Uint8Array(bytes.slice(at, at + size))));
  }
  return [blocks.map(({ type, id, data }) => [type, id, data]), parser.retry, parser.commented];
}
"""

ODD = [
    pytest.param(b"data: a\n\n", [["message", "", "a"]], id="the smallest"),
    pytest.param(b"\xef\xbb\xbfdata: a\n\n", [["message", "", "a"]], id="one BOM is dropped"),
    pytest.param(b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [["message", "", "b"]], id="a second BOM is not"),
    pytest.param(b"data: a\r\rdata: b\r\r", [["message", "", "a"], ["message", "", "b"]], id="CR"),
    pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [["message", "", "a"], ["message", "", "b"]], id="CRLF"),
    pytest.param(b"data: a\r\n\ndata: b\n\r\n", [["message", "", "a"], ["message", "", "b"]], id="line ends mixed"),
    pytest.param(b"data: a\ndata\ndata:b\ndata:  c\n\n", [["message", "", "a\n\nb\n c"]], id="several data lines"),
    pytest.param(b"data\n\ndata:\n\n", [["message", "", ""], ["message", "", ""]], id="empty data"),
    pytest.param(b"event: x\nid: 1\n\ndata: a\n\n", [["message", "1", "a"]], id="no data, no block"),
    pytest.param(b": c\n:\n:data: no\ndata: a\n\n", [["message", "", "a"]], id="comments"),
    pytest.param(b"data: a\n\ndata: b\n", [["message", "", "a"]], id="what is cut off is dropped"),
    pytest.param(b"data: a\n\ndata: b", [["message", "", "a"]], id="no final newline"),
    pytest.param(b"id: 1\ndata: a\n\nid: 2\x00\ndata: b\n\n", [["message", "1", "a"], ["message", "1", "b"]], id="NUL"),
    pytest.param(b"id: 1\ndata: a\n\nid\ndata: b\n\n", [["message", "1", "a"], ["message", "", "b"]], id="id is reset"),
    pytest.param(b"event: x\nevent: y\ndata: a\n\n", [["y", "", "a"]], id="the last event counts"),
    pytest.param(b"Data: no\n data: no\nother: no\ndata : no\ndata:a:b\n\n", [["message", "", "a:b"]], id="odd names"),
    pytest.param(
        "data: \u00fc\u6f22\U0001f44d\u2028\u0085\n\n".encode(),
        [["message", "", "\u00fc\u6f22\U0001f44d\u2028\u0085"]],
        id="UTF-8",
    ),
    pytest.param(b"data: \xff\n\n", [["message", "", "\ufffd"]], id="not UTF-8"),
]


async def parse(page: Page, stream: bytes, size: int) -> Any:
    """Blocks, retry, and whether there was a comment; *stream* comes *size* bytes at a time."""
    return await page.evaluate(_PARSE, [list(stream), size])


@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
async def test_streams_are_read_as_the_specification_says_whatever_the_chunks(visitor: Visit, size: int) -> None:
    async with open_house() as house:
        await visitor.open(house)
        for case in ODD:
            stream, blocks = case.values
            assert isinstance(stream, bytes)
            assert [case.id, (await parse(visitor.page, stream, size))[0]] == [case.id, blocks]


async def test_retry_takes_digits_alone_and_a_comment_is_noticed(visitor: Visit) -> None:
    async with open_house() as house:
        await visitor.open(house)
        asked = [b"retry: 250\n", b"retry: 250\nretry: soon\n", b"retry\n", b"retry: -1\n", b":\n", b"data: :\n"]
        told = [(await parse(visitor.page, stream, 1))[1:] for stream in asked]
        assert told == [[250, False], [250, False], [None, False], [None, False], [None, True], [None, False]]


async def test_what_the_relay_writes_is_read_back_whole(visitor: Visit) -> None:
    async with open_house() as house:
        await visitor.open(house)
        records = sample_records()
        for size in (7, 4_096):
            blocks, _, _ = await parse(visitor.page, b"".join(frame(record) for record in records), size)
            assert [(name, id, json.loads(data)) for name, id, data in blocks] == [
                (record.event.type, str(record.position), json.loads(record.json)) for record in records
            ]
