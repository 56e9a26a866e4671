"""The sockets that the relay listens on: an address, a unix socket, or those that systemd passes on."""

import errno
import os
import socket
import stat
import sys
from collections.abc import Generator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from relay import UsageError
from relay.config.server import SYSTEMD, UNIX, check_host, is_loopback

__all__ = ["Listeners", "listening", "reserved"]

_UNIX: Final[socket.AddressFamily | None] = getattr(socket, "AF_UNIX", None)
"""Windows has none."""

FIRST_FD: Final = 3
"""[spec] sd_listen_fds(3): the descriptor of the first socket that is passed on."""

MOST_SOCKETS: Final = 64

UMASK: Final = 0o117
"""Of the file of a unix socket: its owner and its group may connect."""


class Listeners(Struct, frozen=True):
    """Sockets that listen. *exposed*: whether other machines reach one of them.

    *reserves*: whether they only keep an address for processes that listen there with sockets of their own.
    """

    sockets: list[socket.socket]
    exposed: bool
    reserves: bool = False

    def address(self, scheme: str) -> str:
        """The address of the first: SCHEME://HOST:PORT, or `unix:PATH`."""
        name = self.sockets[0].getsockname()
        if self.sockets[0].family == _UNIX:
            return f"{UNIX}{os.fsdecode(name)}"
        host, port = name[:2]
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


@contextmanager
def listening(
    host: str,
    port: int,
    *,
    access: bool = False,
    environ: MutableMapping[str, str] = os.environ,
    among_others: bool = False,
) -> Generator[Listeners]:
    """Listen on *host* and *port* while entered; see `relay.config.check_host` for the kinds of *host*.

    With `systemd`, the variables of the sockets are removed from *environ*, so that no child process takes them for its
    own; a socket that other machines reach needs *access*. With *among_others*, other processes of this user may listen
    on the same address and port: the system shares connections out. Raises UsageError, with the remedy, if there is no
    socket.
    """
    with ExitStack() as stack:
        if host == SYSTEMD:
            sockets = [stack.enter_context(one) for one in _inherited(environ)]
            for one in sockets:
                if one.family != _UNIX:
                    check_host(str(one.getsockname()[0]), access=access)
        elif host.startswith(UNIX):
            sockets = [stack.enter_context(_unix_socket(host.removeprefix(UNIX)))]
        else:
            sockets = [stack.enter_context(_tcp_socket(host, port, among_others=among_others))]
        yield Listeners(sockets, any(map(_is_exposed, sockets)))


@contextmanager
def reserved(host: str, port: int, *, access: bool = False) -> Generator[Listeners]:
    """A place for several processes to listen at, while entered; raises UsageError as `listening` does.

    On Linux an address is only kept, for sockets of their own: the system gives each new connection to one of them, in
    equal shares. Where there is no such thing, and with a unix socket or systemd, these are sockets that listen: the
    processes inherit them, and the first that is free accepts.
    """
    if sys.platform != "linux" or host == SYSTEMD or host.startswith(UNIX):
        with listening(host, port, access=access) as listeners:
            yield listeners
        return
    # A process of another program, or of another relay, is no reason to share the port with it.
    with _tcp_socket(host, port) as alone:
        port = alone.getsockname()[1]
    with _tcp_socket(host, port, among_others=True, listens=False) as kept:
        yield Listeners([kept], _is_exposed(kept), reserves=True)


def _is_exposed(listener: socket.socket) -> bool:
    return listener.family != _UNIX and not is_loopback(str(listener.getsockname()[0]))


def _tcp_socket(host: str, port: int, *, among_others: bool = False, listens: bool = True) -> socket.socket:
    # One address, so that port 0 is one port; what `localhost` is elsewhere does not matter.
    name = "127.0.0.1" if host == "localhost" else host
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, address = found[0][0], found[0][4]
        both = name == "::" and socket.has_dualstack_ipv6()
        if listens:
            return socket.create_server(address[:2], family=family, dualstack_ipv6=both, reuse_port=among_others)
        return _bound(family, address, both=both)
    except (OSError, UnicodeError) as error:
        raise UsageError(_no_port(error, host, port)) from None


def _bound(family: socket.AddressFamily, address: Any, *, both: bool) -> socket.socket:
    """A socket that has *address* for itself and for those that listen there, and accepts nothing."""
    with ExitStack() as stack:
        kept = stack.enter_context(socket.socket(family))
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            kept.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        kept.bind(address)
        stack.pop_all()
    return kept


def _no_port(error: OSError | UnicodeError, host: str, port: int) -> str:
    if isinstance(error, UnicodeError | socket.gaierror):
        return f"cannot listen on {host} port {port}: no such address"
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} on {host} is in use; choose another with --port, or 0 for any free one"
        case errno.EACCES:
            return f"port {port} needs more rights than this user has; choose one from 1024 up with --port"
        case number:
            reason = os.strerror(number) if number is not None else "no such address"
            return f"cannot listen on {host} port {port}: {reason}"


@contextmanager
def _unix_socket(path: str) -> Generator[socket.socket]:
    """A socket at *path* that owner and group may connect to. It is removed on exit, unless another is there by then.

    A file that a killed process has left is replaced; a socket on which somebody listens is not, and neither is
    anything else. Two processes that start at the same moment are not kept apart.
    """
    if _UNIX is None:
        raise UsageError("this system has no unix sockets; listen on an address")
    with socket.socket(_UNIX) as listener:
        try:
            _remove_stale(path, _UNIX)
            before = os.umask(UMASK)
            try:
                listener.bind(path)
            finally:
                os.umask(before)
            listener.listen()
            bound, owner = _identity(path), os.getpid()
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno is not None else str(error)
            raise UsageError(
                f"cannot listen on the unix socket {path}: {reason}; its folder must exist, and this user must be"
                " allowed to write there"
            ) from None
        try:
            yield listener
        finally:
            with suppress(OSError):
                # A worker inherits the socket, and its end is no end of the others'.
                if os.getpid() == owner and _identity(path) == bound:
                    Path(path).unlink()


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _remove_stale(path: str, family: socket.AddressFamily) -> None:
    """Remove the socket at *path* on which nobody listens. Raises UsageError for anything else that is there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    # To connect to a file that is no socket is refused as well.
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is no socket, and is left as it is; name another path for the unix socket")
    with socket.socket(family) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except BlockingIOError:
            pass  # its queue is full, so somebody listens
    raise UsageError(f"the unix socket {path} is in use by another process; stop that one, or name another path")


def _inherited(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd has passed on to this process ([spec] sd_listen_fds(3))."""
    said = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")}
    count = int(said["LISTEN_FDS"]) if said["LISTEN_FDS"].isascii() and said["LISTEN_FDS"].isdecimal() else 0
    if said["LISTEN_PID"] != str(os.getpid()) or not 1 <= count <= MOST_SOCKETS:
        raise UsageError(
            'host = "systemd" needs a socket of systemd, and none has been passed on to this process; start it by a'
            " .socket unit, or by systemd-socket-activate"
        )
    return [_adopted(fd) for fd in range(FIRST_FD, FIRST_FD + count)]


def _adopted(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        inherited = socket.socket(fileno=fd)
        listens = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise UsageError(f"descriptor {fd} of systemd is no socket: {error.strerror}") from None
    families = (socket.AF_INET, socket.AF_INET6, _UNIX)
    if not listens or inherited.type != socket.SOCK_STREAM or inherited.family not in families:
        inherited.close()
        raise UsageError(f"descriptor {fd} of systemd is no socket that accepts connections; use ListenStream=")
    return inherited
