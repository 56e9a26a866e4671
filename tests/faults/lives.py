"""A relay with a durable webhook that lives many times in a few seconds: `python -m tests.faults.lives FOLDER URL`.

Each life is a fork of a process that has imported everything, and its clock is quick. The commands on standard input:
`live` begins one, `kill` ends it with SIGKILL, and `last` begins one that ends by itself once all is delivered.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from relay import Pace, Relay, SinkOptions, SqliteJournal
from relay.clock import SystemClock
from relay.jobs.observations import Observation, Result
from sinks.webhook import WebhookSink
from tests.relay.scripted import OneStep
from tests.sinks.webhook.receiver import KEY

__all__ = ["LIFE", "SPEED", "TASKS"]

SPEED: Final = 60.0
"""How many seconds of the relay pass in one: its back-off of 5 s takes 83 ms."""

LIFE: Final = 6.0
"""After so many of its own seconds a life reports that it may be killed."""

RESULT: Final = Result(urls=("https://files.example/a.mp4",))
TASKS: Final = ("one", "two", "three", "four")


def main() -> None:
    """Obey the commands."""
    folder, url = Path(sys.argv[1]), sys.argv[2]
    child = 0
    for command in map(str.strip, sys.stdin):
        if command == "kill":
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            say("killed")
            continue
        child = os.fork()
        if not child:
            asyncio.run(live(folder, url, last=command == "last"))
            os._exit(0)
        if command == "last":
            _, status = os.waitpid(child, 0)
            say(f"ended with status {status}")


async def live(folder: Path, url: str, *, last: bool) -> None:
    """One life."""
    clock = SystemClock(SPEED)
    sink = WebhookSink(url, secret=KEY, allow_private=True, timeout=1_000.0)
    ends = False
    steps = iter(range(1, sys.maxsize))

    def observe(tasks: Sequence[str]) -> dict[str, Observation]:
        step = next(steps)
        if ends:
            return {task: Observation(status="succeeded", result=RESULT) for task in tasks}
        return {task: Observation(status="running", raw_status="running", percent=step % 90) for task in tasks}

    relay = Relay(
        [OneStep(observe)],
        sinks=[SinkOptions(sink=sink, name="hook", durable=True)],
        paces={"scripted": Pace(interval=2.5, deadline=1e6)},
        journal=SqliteJournal(folder / "relay.db"),
        clock=clock,
    )
    async with relay:
        jobs = [relay.follow("scripted", task) for task in TASKS]
        await clock.sleep(LIFE)
        say("lives")
        ends = last
        while not (last and all(job.ended for job in jobs) and is_done(relay)):
            await clock.sleep(1.0)


def is_done(relay: Relay) -> bool:
    """Whether the webhook has all there is."""
    status = relay.sinks[0].status()
    return not (status.lag or status.waiting)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
