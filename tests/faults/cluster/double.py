"""The upstream of the soak: accounts over HTTP whose tasks play scripts by seed, and a note of each request."""

import random
import time
from collections.abc import Sequence
from typing import Final, Literal

from aiohttp.web import Application, Request, Response
from msgspec import Struct

from relay.testing.scripted.server import LoopbackServer, answer
from tests.faults.cluster import history

__all__ = ["LISTED", "Double", "upstreams_toml"]

LISTED: Final = 60
"""In how many answers an ended task is still listed: more than one owner after the other may miss in its faults."""

FAILS: Final = 0.02
"""How many of the polls are answered 503."""


class _Task(Struct, kw_only=True):
    """A task: *born* by the monotonic clock, *lasts* seconds, then ended as *end*."""

    id: str
    key: str
    born: float
    lasts: float
    end: Literal["done", "failed"]
    listed: int = 0

    def view(self) -> dict[str, object]:
        part = (time.monotonic() - self.born) / self.lasts
        if part >= 1:
            return {"id": self.id, "state": "succeeded" if self.end == "done" else "failed", "percent": 100}
        return {"id": self.id, "state": "queued" if part < 0.1 else "running", "percent": int(100 * part)}


class Double(LoopbackServer):
    """Accounts whose tasks are listed in one answer (*lists*), and such whose tasks are polled one by one (*items*).

    Each node has an address of its own, so that a request shows which node made it. What a task does follows from
    *seed* and its key alone.
    """

    def __init__(self, lists: Sequence[str], items: Sequence[str], seed: int, *, lasts: tuple[float, float]) -> None:
        super().__init__("127.0.0.1", 0)
        self.lists = tuple(lists)
        self.items = tuple(items)
        self.requests: list[history.Request] = []
        self._tasks: dict[str, dict[str, _Task]] = {account: {} for account in (*lists, *items)}
        self._seed = seed
        self._lasts = lasts
        self._chance = random.Random(seed)

    @property
    def tasks(self) -> list[history.Task]:
        """Every task that was created."""
        return [history.Task(task.id, task.key, task.end) for tasks in self._tasks.values() for task in tasks.values()]

    def create(self, account: str, key: str) -> str:
        """A new task, and its id."""
        chance = random.Random(f"{self._seed} {key}")
        tasks = self._tasks[account]
        task = _Task(
            id=f"{account}-t{len(tasks) + 1}",
            key=key,
            born=time.monotonic(),
            lasts=chance.uniform(*self._lasts),
            end="failed" if chance.random() < 0.1 else "done",
        )
        tasks[task.id] = task
        return task.id

    def _application(self) -> Application:
        app = Application()
        app.router.add_post("/{node}/{account}/tasks", self._submit)
        app.router.add_get("/{node}/{account}/tasks", self._list)
        app.router.add_get("/{node}/{account}/tasks/{task}", self._show)
        return app

    async def _submit(self, request: Request) -> Response:
        key = str((await request.json())["prompt"])
        self._note(request, "submit", key)
        return answer({"id": self.create(request.match_info["account"], key)})

    async def _list(self, request: Request) -> Response:
        self._note(request, "poll")
        if self._chance.random() < FAILS:
            return answer({"error": "busy"}, status=503)
        shown = []
        for task in self._tasks[request.match_info["account"]].values():
            view = task.view()
            task.listed += view["percent"] == 100
            if task.listed <= LISTED:
                shown.append(view)
        return answer({"tasks": shown})

    async def _show(self, request: Request) -> Response:
        self._note(request, "poll")
        if self._chance.random() < FAILS:
            return answer({"error": "busy"}, status=503)
        task = self._tasks[request.match_info["account"]].get(request.match_info["task"])
        return answer({"error": "no such task"}, status=404) if task is None else answer(task.view())

    def _note(self, request: Request, kind: Literal["poll", "submit"], key: str = "") -> None:
        node, account = request.match_info["node"], request.match_info["account"]
        self.requests.append(history.Request(time.time(), account, kind, node, key))


def upstreams_toml(double: Double, node: str, *, list_every: float, item_every: float) -> str:
    """The tables of a configuration of *node* for all accounts."""
    tables = []
    for account in (*double.lists, *double.items):
        every = list_every if account in double.lists else item_every
        poll = 'path = "tasks"\nitems = "tasks"\nid = "id"\n' if account in double.lists else 'path = "tasks/{task}"\n'
        tables.append(
            f'[[upstreams]]\nkind = "http"\nname = "{account}"\nbase_url = "{double.origin}/{node}/{account}"\n'
            f"interval = {every}\ntimeout = 5.0\n"
            f'[upstreams.poll]\n{poll}status = "state"\nprogress = "percent"\nscale = 100\n'
            '[upstreams.submit]\npath = "tasks"\nbody = { prompt = "{input.prompt}" }\nid = "id"\n'
        )
    return "\n".join(tables)
