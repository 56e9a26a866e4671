"""While the journal cannot be written: what is refused, what goes on, and what `/readyz` says."""

from collections.abc import Mapping

from aiohttp import ClientSession

from relay import Relay
from relay.errors import JournalError
from relay.events import Log
from relay.journal import MemoryJournal
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.serving import serve

FOLLOW = {"upstream": "scripted", "task": "t"}
SUBMIT = {"upstream": "scripted", "input": {"prompt": "a cat"}}


class Full(MemoryJournal):
    """A journal on a disk that may be full."""

    full = False

    def commit(self) -> None:
        if self.full:
            raise JournalError("the disk is full; make room")
        super().commit()


async def answer(client: ClientSession, body: Mapping[str, object]) -> tuple[int, str | None]:
    async with client.post("/v1/jobs", json=body) as response:
        return response.status, response.headers.get("Retry-After")


async def test_while_the_journal_cannot_be_written_new_work_is_503_known_jobs_are_answered_and_readyz_says_why() -> (
    None
):
    journal, upstream = Full(), TwoStep(story({"t": RUNNING}))
    relay = Relay([upstream], clock=ManualClock(), journal=journal, notify=lambda _: None)
    async with serve(relay) as client:
        before = await answer(client, FOLLOW)
        journal.full = True
        relay.bus.publish(relay.jobs()[0], Log(line="waits"))
        refused = [await answer(client, body) for body in (SUBMIT, {**FOLLOW, "task": "u"})]
        known = await answer(client, FOLLOW)
        async with client.get("/readyz") as response:
            ready = response.status, (await response.json())["detail"]
        journal.full = False
        with relay.bus.batch():
            pass
        async with client.get("/readyz") as response:
            after = response.status, await response.text()
        accepted = await answer(client, SUBMIT)

    assert (before, refused, known) == ((201, None), [(503, "5"), (503, "5")], (200, None))
    assert ready == (503, "the disk is full; make room; records wait in memory until it can be written")
    assert (after, accepted) == ((200, "ready\n"), (201, None))
    assert len(upstream.submitted) == 1
