"""Requests from one node to the owner of a shard, and their answers; each is carried out once, however often sent."""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from relay.clock import Clock
from relay.cluster._messages import Announce, Message, answer_with, decoded, encoded, outcome
from relay.cluster._within import within
from relay.errors import BusyError, JournalError, RelayError, UnavailableError
from relay.journal.shared import EVERYBODY, Command, Commands
from relay.notices import Notify, describe

__all__ = ["ANSWER_WITHIN", "Mailbox"]

ANSWER_WITHIN: Final = 10.0
"""Seconds that a caller waits for another node, by the relay's clock."""

AGAIN_AFTER: Final = 1.0
"""Seconds after which a request without an answer is sent again: its shard may have another owner by then."""

REMEMBERED: Final = 10_000
MOST_AT_ONCE: Final = 1_000
"""How many requests of others a node remembers, and how many it works on at once."""

ANSWER: Final = "answer"
ANNOUNCE: Final = "announce"


class Mailbox:
    """The messages of the node *node*.

    *act* carries out a request of another node, and returns the id of a job, or None where no answer is due; it raises
    RelayError. *owns* says whether a shard is this node's: a request for another is for another node. *announced* gets
    each announcement of any node, and its sender, in the order in which every node gets them.
    """

    def __init__(
        self,
        commands: Commands,
        node: str,
        clock: Clock,
        notify: Notify,
        *,
        act: Callable[[Message, str], Coroutine[Any, Any, str | None]],
        owns: Callable[[int], bool],
        announced: Callable[[Announce, str], object],
    ) -> None:
        self._commands = commands
        self._node = node
        self._clock = clock
        self._notify = notify
        self._act = act
        self._owns = owns
        self._announced = announced
        self._awaited: dict[str, asyncio.Future[bytes]] = {}
        self._answers: OrderedDict[str, bytes | None] = OrderedDict()
        self._working: set[asyncio.Task[None]] = set()

    async def ask(self, shard: int, message: Message) -> str:
        """The id of the job with which the owner of *shard* answers *message*.

        Raises the error that the owner has raised, and UnavailableError if there is no answer within ANSWER_WITHIN
        seconds: it is not known then whether the request was carried out.
        """
        command = self._new(message, shard)
        try:
            return outcome(await within(self._clock, ANSWER_WITHIN, self._answer_to(command)))
        except TimeoutError:
            raise UnavailableError(
                "the node that this job belongs to does not answer, so it is not known whether the request was carried"
                " out; send it again with the same key in a few seconds",
                retry_after=AGAIN_AFTER,
            ) from None
        except msgspec.MsgspecError as error:
            raise UnavailableError(
                f"another node has sent an answer that this version cannot read: {error}", retry_after=AGAIN_AFTER
            ) from None

    def tell(self, message: Message, shard: int = EVERYBODY, to: str = "") -> None:
        """Send *message*, to which no answer is due, once; if the engine does not answer, it is lost."""
        self._work(self._send(self._new(message, shard, to)), f"tell {message.__struct_config__.tag}")

    def receive(self, command: Command) -> None:
        """A command has come: an answer that is awaited, or a request for a shard of this node."""
        if command.op == ANSWER:
            awaited = self._awaited.get(command.re)
            if awaited is not None and not awaited.done():
                awaited.set_result(command.body)
        elif command.op == ANNOUNCE:
            self._pass_on(command)
        elif command.shard == EVERYBODY:
            if command.sender != self._node:
                self._begin(command)
        elif self._owns(command.shard):
            self._begin(command)

    async def close(self) -> None:
        """Work on nothing any more."""
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)

    def _new(self, message: Message, shard: int, to: str = "") -> Command:
        op = str(message.__struct_config__.tag)
        return Command(id=secrets.token_hex(8), op=op, sender=self._node, shard=shard, to=to, body=encoded(message))

    async def _answer_to(self, command: Command) -> bytes:
        awaited: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._awaited[command.id] = awaited
        sending = asyncio.create_task(self._send_again(command), name=f"ask {command.op}")
        try:
            return await awaited
        finally:
            sending.cancel()
            del self._awaited[command.id]

    async def _send_again(self, command: Command) -> None:
        while True:
            await self._send(command)
            await self._clock.sleep(AGAIN_AFTER)

    async def _send(self, command: Command) -> None:
        try:
            await self._commands.send(command)
        except JournalError:
            """The journal reports why; a request that matters is sent again."""

    def _pass_on(self, command: Command) -> None:
        """Pass an announcement on at once, this node's own as well: all nodes do so in the order of the stream."""
        try:
            message = decoded(command.body)
        except msgspec.MsgspecError as error:
            self._notify(f"node {command.sender} has sent news that this version cannot read: {error}")
        else:
            if isinstance(message, Announce):
                self._announced(message, command.sender)

    def _begin(self, command: Command) -> None:
        if command.id in self._answers:
            known = self._answers[command.id]
            if known is not None:
                self._work(self._send(self._reply(command, known)), f"answer {command.op} again")
            return
        self._answers[command.id] = None
        while len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        self._work(self._carry_out(command), f"carry out {command.op}")

    async def _carry_out(self, command: Command) -> None:
        try:
            message = decoded(command.body)
        except msgspec.MsgspecError as error:
            self._notify(f"node {command.sender} has sent {command.op!r}, which this version cannot read: {error}")
            return
        try:
            if len(self._working) > MOST_AT_ONCE:
                raise BusyError("this node works on too many requests of other nodes; try again in a few seconds")
            result = await self._act(message, command.sender)
        except RelayError as error:
            body = answer_with(error)
        except Exception as error:
            self._notify(f"{command.op!r} of node {command.sender} broke off: {describe(error)}")
            body = answer_with(RelayError(f"the owner of the job failed with {type(error).__name__}"))
        else:
            if result is None:
                return
            body = answer_with(result)
        if command.id in self._answers:
            self._answers[command.id] = body
        await self._send(self._reply(command, body))

    def _reply(self, command: Command, body: bytes) -> Command:
        return Command(
            id=secrets.token_hex(8), op=ANSWER, sender=self._node, to=command.sender, re=command.id, body=body
        )

    def _work(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
