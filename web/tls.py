"""The certificate of the server, which is read again when its files change; open connections stay as they are."""

import os
import ssl
import stat
from asyncio.sslproto import SSLProtocol
from pathlib import Path
from typing import Final

from relay import ConfigError
from relay.clock import Clock
from relay.notices import Notify, notice

__all__ = ["LOOK_EVERY", "Certificate"]

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the files."""

RECORD: Final = 16 * 1024
"""[spec] RFC 8446, 5.1: the most bytes of a record of TLS, and so of what there is to read at a time."""

_SUFFICIENT: Final = ssl.TLSVersion.TLSv1_2

_Version = tuple[tuple[int, ...] | None, ...]


class LatestContext(ssl.SSLContext):
    """Stands for the *latest* context: each connection that is accepted begins its handshake with that one.

    A new pair in a context that is in use breaks every handshake if the key is not that of the certificate, and does
    not replace a pair of another kind of key (measured with OpenSSL 3.0). An `sni_callback` that exchanges the context
    does both, but CPython prints a traceback for each client whose server name is not ASCII.
    """

    latest: ssl.SSLContext

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """The connection, as an event loop makes it for each socket that it accepts."""
        return self.latest.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class Certificate:
    """A certificate with its chain, in the file *cert*, and its private key in the file *key*, both in PEM.

    Raises ConfigError, with the reason, if they cannot be used. Later on, a pair that cannot be used leaves the one in
    use as it is, and is a notice.
    """

    def __init__(self, cert: Path, key: Path, notify: Notify = notice) -> None:
        self._cert = cert
        self._key = key
        self._notify = notify
        self._seen = self._version()
        self._trouble: str | None = None
        _read_a_record_at_a_time()
        self.context: LatestContext = LatestContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.latest = self._load()
        self._check_mode()

    @property
    def files(self) -> tuple[Path, Path]:
        """The files of the certificate and of the key."""
        return self._cert, self._key

    def reload(self) -> None:
        """Use the files as they are now, if they have changed or could not be used. To be called now and then."""
        seen = self._version()
        if seen == self._seen and self._trouble is None:
            return
        try:
            self.context.latest = self._load()
        except ConfigError as error:
            # The programs that renew certificates write one file after the other, so this may be over in a moment.
            if str(error) != self._trouble:
                self._trouble = str(error)
                self._notify(f"{error}; the certificate in use is kept, and the files are read again")
            return
        self._seen, self._trouble = seen, None
        self._notify(f"the certificate in {self._cert} is new, and is used for new connections")
        self._check_mode()

    async def watch(self, clock: Clock) -> None:
        """Reload every LOOK_EVERY seconds, for ever."""
        while True:
            await clock.sleep(LOOK_EVERY)
            self.reload()

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _SUFFICIENT
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(["http/1.1"])
        for path in self.files:
            _check_file(path)
        try:
            # Without a callback, OpenSSL asks the terminal for the passphrase of a key that has one, and waits.
            context.load_cert_chain(self._cert, self._key, _refuse)
        except _EncryptedError:
            raise ConfigError(
                f"[server] tls: the key {self._key} is encrypted, and the relay asks nobody; write it without a"
                " passphrase, readable by this user alone"
            ) from None
        except (ssl.SSLError, OSError) as error:
            raise ConfigError(f"[server] tls: {self._problem(error)}") from None
        return context

    def _problem(self, error: Exception) -> str:
        match getattr(error, "reason", None):
            case "KEY_VALUES_MISMATCH" | "KEY_TYPE_MISMATCH" | "NO_CERTIFICATE_ASSIGNED":
                return f"the key {self._key} is not that of the certificate {self._cert}"
            case "EE_KEY_TOO_SMALL" | "CA_KEY_TOO_SMALL" | "CA_MD_TOO_WEAK":
                return f"the certificate {self._cert} is too weak; use RSA with 2,048 bits, or an elliptic curve"
            case _:
                return f"{self._cert} and {self._key} are no whole certificate and key in PEM"

    def _version(self) -> _Version:
        """A value that differs once a file has been written, replaced or given other rights."""
        return tuple(map(_version, self.files))

    def _check_mode(self) -> None:
        try:
            mode = self._key.stat().st_mode
        except OSError:
            return
        if os.name == "posix" and mode & stat.S_IROTH:
            self._notify(f"{self._key} can be read by every user of this machine; chmod o-rwx {self._key}")


def _read_a_record_at_a_time() -> None:
    """Have asyncio keep the buffer of a record for each connection with TLS, and not 256 KiB as it does by itself.

    Measured with 1,000 idle streams: 279 KiB a stream before, and 39 after. This relies on a name of the standard
    library that is not documented; without it nothing is changed. uvloop has buffers of its own, which stay unused.
    """
    if getattr(SSLProtocol, "max_size", 0) > RECORD:
        SSLProtocol.max_size = RECORD


class _EncryptedError(Exception):
    """The key is encrypted."""


def _refuse() -> str:
    raise _EncryptedError


def _check_file(path: Path) -> None:
    """Raises ConfigError unless *path* is a file that can be read; to open a pipe would wait for its other end."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigError(f"[server] tls: {path} is no file")
        with path.open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"[server] tls: cannot read {path}: {error.strerror}") from None


def _version(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino
