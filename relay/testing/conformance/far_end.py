"""The far end of a sink in a test: the receiver, server or disk that it writes to, and the trouble that it can make."""

import asyncio
from typing import Final, Literal, TypeAlias

__all__ = ["CONTROLS", "ScriptedFarEnd", "Trouble"]

Trouble: TypeAlias = Literal["down", "frozen", "half_closed", "cancelling"]

CONTROLS: Final[dict[Trouble, str]] = {
    "down": "it refuses every connection",
    "frozen": "it takes connections and never answers",
    "half_closed": "it takes what is sent, and the connection breaks before its answer",
    "cancelling": "its work raises CancelledError by itself",
}
"""The methods that make trouble, as `check_sink` looks for them; `back` ends it."""


class ScriptedFarEnd:
    """A far end that needs no server: what a sink would send over the network, it passes to `take`.

    `down`, `frozen`, `half_closed` and `cancelling` make trouble until `back` is called; `written` returns all that was
    accepted, and `attempts` every call with its key, accepted or not. Its errors quote *canary*, as those of many
    clients quote a URL with its password: a sink must not pass them on.

    Used on one event loop at a time.
    """

    def __init__(self, *, canary: str = "") -> None:
        self._canary = canary
        self._state: Trouble | None = None
        self._thawed = asyncio.Event()
        self._taken = bytearray()
        self._attempts: list[tuple[str, bytes]] = []

    async def take(self, data: bytes, key: str = "") -> None:
        """Take *data*, or make the trouble that is on. *key* is the idempotency key of this attempt, if there is one.

        Raises ConnectionError while it is down or its connections break, CancelledError while it is cancelling.
        """
        self._attempts.append((key, data))
        if self._state == "frozen":
            await self._thawed.wait()
        match self._state:
            case "down":
                raise ConnectionRefusedError(f"cannot reach https://relay:{self._canary}@far-end.example")
            case "cancelling":
                raise asyncio.CancelledError
            case "half_closed":
                self._taken += data
                raise ConnectionResetError("the connection broke before the answer")
            case _:
                self._taken += data

    def written(self) -> bytes:
        """All that was accepted so far."""
        return bytes(self._taken)

    def attempts(self) -> list[tuple[str, bytes]]:
        """The key and the data of every call of `take` so far."""
        return list(self._attempts)

    def down(self) -> None:
        """From now on, refuse everything."""
        self._state = "down"

    def frozen(self) -> None:
        """From now on, answer nothing until `back`."""
        self._state = "frozen"
        self._thawed = asyncio.Event()

    def half_closed(self) -> None:
        """From now on, take what comes, and let the connection break before the answer."""
        self._state = "half_closed"

    def cancelling(self) -> None:
        """From now on, raise CancelledError, as a library does that cancels its own task."""
        self._state = "cancelling"

    def back(self) -> None:
        """Work again; a call that hangs is accepted now."""
        self._state = None
        self._thawed.set()
