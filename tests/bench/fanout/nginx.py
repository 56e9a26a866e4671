"""nginx with nchan: its configuration, and its publisher."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from tests.bench.fanout.control import Order, payload

__all__ = ["NCHAN_MODULE", "nginx", "nginx_configuration", "post_all"]

NCHAN_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
WINDOW: Final = 64
"""How many POSTs may be unanswered."""


def nginx() -> str | None:
    """Where nginx is; Debian keeps it off most people's path."""
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def nginx_configuration(root: Path, port: int) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
load_module {NCHAN_MODULE};
{user} worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log error;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; use epoll; }}
http {{
  access_log off; keepalive_requests 100000000; tcp_nodelay on;
  client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  nchan_shared_memory_size 256M; nchan_message_timeout 60s; nchan_message_buffer_length 100;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location ~ ^/events/(.+)$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest;
    }}
    location ~ ^/pub/(.+)$ {{ nchan_publisher http; nchan_channel_id $1; }}
  }}
}}
"""


def post_all(port: int, order: Order) -> None:
    """Publish on one kept connection, pipelined; return when every POST has been answered."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = _Answers(connection)
        for index in _paced(order.events, order.rate):
            topic, seq = order.nth(index)
            body = payload(seq, order.size).encode()
            head = f"POST /pub/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            if order.rate:
                answers.glance()
            while index - answers.count > WINDOW:
                answers.read()
        while answers.count < order.events:
            answers.read()


class _Answers:
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._tail = b""
        self.count = 0

    def read(self, flags: int = 0) -> None:
        got = self._connection.recv(65_536, flags)
        if not got:
            raise RuntimeError("nginx hung up on its publisher")
        data = self._tail + got
        self._tail = data[-11:]
        self.count += data.count(b"HTTP/1.1 20") - self._tail.count(b"HTTP/1.1 20")

    def glance(self) -> None:
        with suppress(BlockingIOError):
            self.read(socket.MSG_DONTWAIT)


def _paced(events: int, rate: float) -> Iterator[int]:
    start = time.monotonic()
    for index in range(events):
        if rate:
            time.sleep(max(0.0, start + index / rate - time.monotonic()))
        yield index
