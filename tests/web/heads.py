"""Heads of requests, most of them for streams: plain ones, odd ones, and broken ones."""

from typing import Final

from hypothesis import strategies as st
from msgspec import Struct

from tests.web.access.house import LISTED_ORIGIN, PROXY_SECRET
from tests.web.access.keys import ANN, BOB

__all__ = ["Sent", "heads"]

FRAMING: Final = (b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"content-encoding")


class Sent(Struct, frozen=True):
    """The bytes that a client sends, in these pieces."""

    pieces: tuple[bytes, ...]

    @property
    def whole(self) -> bool:
        """Whether it is a request to its end for any reader, with nothing that says otherwise about its body."""
        data = b"".join(self.pieces).lstrip(b"\r\n")
        return data.endswith(b"\r\n\r\n") and not any(name in data.lower() for name in FRAMING)


def mostly(usual: str, *others: str, weight: int = 8) -> st.SearchStrategy[str]:
    return st.sampled_from([usual] * weight + list(others))


odd_text = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=12)

methods = mostly("GET", "get", "Get", "HEAD", "POST", "OPTIONS", "GETS", "", "G\x00T", weight=40)
jobs = mostly(
    "job_0",
    *("job_1", "job_1", "job_2", "job_2", "job_x", "%6aob_0", "job%5F0", "job_0%20", "job_0/", "..", ".", "", "%00"),
    *("%ff", "job_0;a", "job_0+", "JOB_0", "job_0%2f..%2fjob_0", "j" * 300, "é", "job_0\x7f", "*", "job~0", "job.0"),
    weight=24,
)
queries = mostly(
    "",
    *("?", "?level=info", "?level=INFO", "?level=", "?level=error&level=debug", "?follow=false", "?follow=true"),
    *("?follow=1", "?debug=1", "?debug=0", "?lastEventId=a-1", "?last_event_id=x-99", "?LASTEVENTID=a-0&lastEventId="),
    *(
        "?ticket=abc",
        "?ticket=",
        "?job=job_0",
        "?job=job_0&job=job_1",
        "?job=job_2",
        "?job=job_x",
        "?job=",
        "?%6aob=job_0",
    ),
    *("?a=%ff", "?a=\x80", "?" + "a&" * 30, "?job=job_0;job=job_1", "?=&=", "?a b", "#x", "?a#x", "?%", "?job=job%5f0"),
)
routes = mostly(
    "/v1/jobs/{}/events",
    *("/v1/events", "/v1/events", "/v1/events", "/v1/jobs/{}", "//v1/jobs/{}/events", "/v1/jobs/{}/events/"),
    *("/v1/./jobs/{}/events", "/v1/jobs/x/../{}/events", "/V1/jobs/{}/events", "/v1/jobs/{}/%65vents", "/v1/Events"),
    *("http://localhost/v1/jobs/{}/events", "http://evil.example/v1/events", "http:///v1/events", "v1/events", "*", ""),
    *("/v1/events%00", "/v1/events/", "/v1//events", "/v1\\events", "/v1/jobs/" + "{}" * 9 + "/events", "/healthz"),
    weight=30,
)
versions = mostly(
    "HTTP/1.1",
    *("HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", "HTTP/1.10", "HTTP/11", "", "HTTP/ 1.1"),
    weight=60,
)
hosts = st.sampled_from(
    [["Host: localhost"]] * 30
    + [
        *([], ["Host: localhost", "Host: localhost"], ["Host: localhost", "host: evil.example"], ["Host:"], ["Host: "]),
        *(
            ["Host: evil.example"],
            ["Host: 127.0.0.1:8080"],
            ["Host: [::1]"],
            ["Host: LOCALHOST."],
            ["Host: a@localhost"],
        ),
        *(["Host: localhost:"], ["Host: localhost:x"], ["Host: local host"], ["Host: \xe9"], ["hOsT:localhost"]),
        *(["Host : localhost"], ["Host: localhost\x00"], ["Host: localhost,evil.example"], ["Host:\tlocalhost\t"]),
    ]
)
fields = st.one_of(
    st.sampled_from(
        [
            *("Accept: text/event-stream", "Accept: */*", "Accept: application/json", "Accept: application/x-ndjson"),
            *(
                "accept:text/event-stream;q=0.1, application/x-ndjson",
                "Accept: text/event-stream;q=0",
                "Accept: image/png",
            ),
            *(
                "Accept:",
                "Accept: ,",
                "Accept: text/*;q=x",
                "ACCEPT: TEXT/EVENT-STREAM",
                'Accept: a/b;c="',
                "Accept: text",
            ),
            *("Last-Event-ID: unknown-0", "Last-Event-ID: gone-0", "Last-Event-ID:", "Last-Event-ID: \xff\xfe"),
            *(
                "last-event-id: a-1",
                "Last-Event-ID: a-99999999999999999999",
                "Last-Event-ID: -1",
                "Last-Event-ID: a--1",
            ),
            *(f"Origin: {LISTED_ORIGIN}", "Origin: http://localhost", "Origin: null", "Origin: https://evil.example"),
            *("Origin:", "origin: HTTP://LOCALHOST", f"Origin:{LISTED_ORIGIN} ", "Origin: http://127.0.0.1:1"),
            *("Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: navigate"),
            *("Sec-Fetch-Site: none", "Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: cors", "Sec-Fetch-Site:"),
            *(
                "Connection: close",
                "Connection: keep-alive",
                "Connection: upgrade",
                "Connection:",
                "Connection: close, x",
            ),
            *("Upgrade: websocket", "Expect: 100-continue", "Expect: x", "Content-Length: 0", "Content-Length: 5"),
            *("Content-Length: -1", "Content-Length: 0, 0", "Transfer-Encoding: chunked", "Transfer-Encoding: gzip"),
            *(
                "Content-Encoding: gzip",
                "Content-Encoding: identity",
                "Content-Encoding:",
                "TE: trailers",
                "Trailer: x",
            ),
            *("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-For: ,", "Forwarded: for=1.2.3.4"),
            *(
                f"X-Relay-Proxy: {PROXY_SECRET}",
                "X-Forwarded-User: ann",
                "X-Forwarded-User: ann",
                "X-Forwarded-User: \xe9",
            ),
            *("Cookie: a=b", "Cookie: relay-x=y; relay-x=z", "Cookie: ;;=;", "Cookie: \xff=\xff", "Cookie: rt_a=b"),
            *(
                "Authorization: Basic YTpi",
                "Authorization: Bearer",
                "Authorization: Bearer x",
                "Authorization: Bearer \xe9",
            ),
            *(
                "Range: bytes=0-1",
                "If-None-Match: *",
                "User-Agent: x",
                "Sec-WebSocket-Key1: x",
                "Keep-Alive: timeout=5",
            ),
            *("X: " + "a" * 8_100, "X: " + "a" * 8_300, "X:" + " " * 99, "\xe9: x", "X\x00: x", "X: a\x00b", "X : y"),
            *(" folded: x", "\tfolded", "X: a\r\n b", "X: a\r\n\tb", "noColon", ":", ": x", "X: a\nY: b", "X: a\rY: b"),
        ]
    ),
    st.builds("{}: {}".format, odd_text, odd_text),
)
credentials = st.sampled_from(
    [
        *[[], *[[f"Authorization: Bearer {ANN}"]] * 20],
        *([f"Authorization: Bearer {BOB}"], [f"authorization: bearer  {ANN}"], [f"Authorization: Bearer {ANN}"] * 2),
        [f"X-Relay-Proxy: {PROXY_SECRET}", "X-Forwarded-User: ann"],
    ]
)
ends = mostly("\r\n", "\n", "\r", "\r\r\n", weight=120)


@st.composite
def head(draw: st.DrawFn) -> Sent:
    """One head, of which a few bytes may be other ones, or come later."""
    target = draw(routes).replace("{}", draw(jobs)) + draw(queries)
    space = draw(mostly(" ", "  ", "\t", weight=60))
    line = space.join((draw(methods), target, draw(versions)))
    more = draw(st.lists(fields, max_size=draw(st.sampled_from([0, 0, 1, 2, 4]))))
    lines = draw(st.permutations([*draw(hosts), *draw(credentials), *more]))
    data = "".join(text + draw(ends) for text in (line, *lines, "")).encode("latin-1")
    for _ in range(draw(st.sampled_from([0] * 9 + [1, 1, 2]))):
        place = draw(st.integers(0, len(data)))
        new = draw(st.binary(max_size=2))
        data = data[:place] + new + data[place + draw(st.integers(0, 2)) :]
    prefix = draw(st.sampled_from([b""] * 30 + [b"\r\n", b"\n", b" ", b"\x00"]))
    suffix = draw(st.sampled_from([b""] * 20 + [b"x", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\r\n"]))
    data = prefix + data + suffix
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=draw(st.sampled_from([0, 0, 0, 0, 2])))))
    return Sent(tuple(data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)))


def heads(number: int) -> st.SearchStrategy[list[Sent]]:
    """*number* heads, which are sent one after the other."""
    return st.lists(head(), min_size=number, max_size=number)
