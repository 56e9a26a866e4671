"""Real proxies, configured by the very blocks of the documentation; only ports, the name and the certificate differ."""

import asyncio
import os
import random
import re
import shutil
from asyncio import StreamReader
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from socket import create_server
from ssl import SSLContext, create_default_context

import pytest
import trustme
from msgspec import Struct

__all__ = [
    "NAME",
    "PAGES",
    "PASSWORD",
    "PROXIES",
    "SECRET",
    "USER",
    "Change",
    "Proxy",
    "documented",
    "free_port",
    "open_to_operators",
]

PAGES = Path(__file__).parents[2] / "docs" / "how-to"
PAGE = "behind-a-proxy.md"

NAME = "relay.localhost"
"""Stands for the documentation's relay.example.com: a name that leads to loopback by itself."""

USER, PASSWORD = "ann", "canary"
_BCRYPT = "$2b$04$relaytestsrelaytestsreUMxoQqYYKRLaFMX1LRpmjOJ9y7bDUEC"
_SHA512 = (
    "$6$rounds=1000$relaytests$lNHqVP1bEvb4Kwq/AxQscpe/n6tYlOhug3BCQGR828XKKIY6o7u0T78FcTF798Z8/24qrP51d/acleYTjj89B/"
)
"""PASSWORD as each of them wants it, made cheap to check."""

SECRET = "proxy-0123456789-0123456789-0123456789"
"""What a proxy that names its users shares with the relay."""

SAFETY = 60.0


Change = Callable[[str], str]
"""What a test makes of a documented block."""


class Files(Struct):
    """What a configuration names: a folder for all that is written, a certificate, and two ports."""

    folder: Path
    certificate: Path
    key: Path
    port: int
    relay: int


class Proxy(Struct):
    """How one of them is run: in the foreground, on its documented configuration, *adapted* to where it runs.

    *ready* is what it prints once it listens, *password* the hash of PASSWORD that its environment holds,
    *page* the page that has its block.
    """

    program: str
    heading: str
    arguments: Callable[[Files], list[str]]
    adapted: Callable[[str, Files], str]
    ready: bytes
    password: str = _SHA512
    page: str = PAGE

    @asynccontextmanager
    async def running(self, folder: Path, port: int, relay: int, change: Change) -> AsyncGenerator[SSLContext]:
        """Run it on *port* in front of the relay on port *relay*; this yields what trusts its certificate."""
        authority = trustme.CA()
        certificate = authority.issue_cert(NAME, "127.0.0.1")
        authority.cert_pem.write_to_path(str(folder / "authority.pem"))
        files = Files(folder, folder / "relay.pem", folder / "relay.key", port, relay)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(files.certificate))
        certificate.private_key_pem.write_to_path(str(files.key))
        configuration = self.adapted(_placed(change(documented(self.heading, self.page)), files), files)
        (folder / "proxy.conf").write_text(configuration, encoding="utf-8")
        (folder / "relay.htpasswd").write_text(f"{USER}:{_SHA512}\n")
        tls = create_default_context()
        authority.configure_trust(tls)
        (folder / "relay-secret.conf").write_text(f'proxy_set_header X-Relay-Proxy "{SECRET}";\n')
        environ = {"RELAY_PASSWORD_HASH": self.password, "RELAY_PROXY_SECRET": SECRET}
        async with _process(self._path(), *self.arguments(files), home=folder, ready=self.ready, environ=environ):
            yield tls

    def _path(self) -> str:
        # Debian keeps nginx and haproxy in /usr/sbin, which is not on everybody's path.
        path = shutil.which(self.program) or shutil.which(self.program, path="/usr/sbin")
        if path is None:
            pytest.skip(f"no {self.program} is installed; on Debian: apt-get install {self.program}")
        return path


def documented(heading: str, page: str = PAGE) -> str:
    """The first code block below *heading* of *page*."""
    text = (PAGES / page).read_text("utf-8")
    found = re.search(rf"^##+ {heading}\n+(?:[A-Z][^\n]*\n+)*```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{page} has no block under {heading!r}"
    return found[1]


def open_to_operators(block: str) -> str:
    """*block* as the page says that it is for those who may submit and cancel as well."""
    restricts = r"^.*(limit_except|method GET HEAD|METH_GET).*\n"
    return re.sub(restricts, "", block, flags=re.MULTILINE).replace(
        "v1/jobs(/[^/]+)?)$", "v1/jobs(/[^/]+(/cancel)?)?)$"
    )


def _placed(text: str, files: Files) -> str:
    """*text* with what a test has in place of the documentation's name, ports and certificate."""
    for ours, theirs in {
        "relay.example.com": NAME,
        "127.0.0.1:8080": f"127.0.0.1:{files.relay}",
        "/etc/ssl/relay.pem": str(files.certificate),
        "/etc/ssl/relay.key": str(files.key),
        "/etc/nginx/relay-secret.conf": str(files.folder / "relay-secret.conf"),
        "/etc/nginx/relay.htpasswd": str(files.folder / "relay.htpasswd"),
        "retry: 2000": "retry: 50",
    }.items():
        text = text.replace(ours, theirs)
    return text


def _nginx(block: str, files: Files) -> str:
    """It includes the block where Debian's nginx.conf does, and leaves everything else at its default."""
    block = block.replace("listen 443 ssl", f"listen 127.0.0.1:{files.port} ssl")
    return f"""
        daemon off;
        master_process off;
        pid {files.folder}/pid;
        error_log stderr notice;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {files.folder}/body;
            proxy_temp_path {files.folder}/proxy;
            fastcgi_temp_path {files.folder}/fastcgi;
            uwsgi_temp_path {files.folder}/uwsgi;
            scgi_temp_path {files.folder}/scgi;
            {block}
        }}
    """


def _haproxy(block: str, files: Files) -> str:
    block = block.replace("bind :443", f"bind 127.0.0.1:{files.port}")
    return f"global\n    log stderr format raw daemon\n\n{block}".replace("mode http", "mode http\n    log global", 1)


def _caddy(block: str, files: Files) -> str:
    """It asks nobody for a certificate, and keeps its files together."""
    block = block.replace(f"{NAME} {{", f"https://{NAME}:{files.port} {{\n\ttls {files.certificate} {files.key}", 1)
    return f"""{{
        admin off
        auto_https off
        default_bind 127.0.0.1
        storage file_system {files.folder}/storage
        servers {{
            protocols h1 h2
        }}
    }}
    {block}"""


PROXIES = {
    "nginx": Proxy(
        "nginx",
        "nginx",
        lambda files: ["-e", "stderr", "-p", str(files.folder), "-c", str(files.folder / "proxy.conf")],
        _nginx,
        b'using the "epoll" event method',
    ),
    "haproxy": Proxy(
        "haproxy",
        "HAProxy",
        lambda files: ["-W", "-db", "-f", str(files.folder / "proxy.conf")],
        _haproxy,
        b"Loading success",
    ),
    "caddy": Proxy(
        "caddy",
        "Caddy",
        lambda files: ["run", "--adapter", "caddyfile", "--config", str(files.folder / "proxy.conf")],
        _caddy,
        b"serving initial configuration",
        _BCRYPT,
    ),
}


@asynccontextmanager
async def _process(*command: str, home: Path, ready: bytes, environ: Mapping[str, str]) -> AsyncGenerator[None]:
    """Run a program until this is left; entered once it has printed *ready*."""
    process = await asyncio.create_subprocess_exec(
        *command, env={"HOME": str(home), "PATH": os.defpath, **environ}, stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE
    )
    printed = bytearray()
    spoke = asyncio.Event()

    async def listen(stream: StreamReader) -> None:
        async for line in stream:
            printed.extend(line)
            if ready in line:
                spoke.set()
        spoke.set()

    assert process.stderr is not None
    listening = asyncio.create_task(listen(process.stderr))
    try:
        async with asyncio.timeout(SAFETY):
            await spoke.wait()
        assert ready in printed, printed.decode()
        yield
    finally:
        await _end(process)
        await listening


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(SAFETY):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def free_port() -> int:
    """A port that is free now, and that nothing is given by chance: such ports begin at 32,768."""
    while True:
        port = random.randrange(20_000, 32_768)
        with suppress(OSError), create_server(("127.0.0.1", port)):
            return port
