"""`relay doctor` says whether what is configured can work, and what an answer is taken for."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest

from relay.cli import main
from relay.testing import ManualClock, ScriptedRunway, ScriptedUpstream
from tests.cli import warm
from tests.cli.running import PATIENCE, SCRIPT
from tests.upstreams.declared.declarations import DECLARATIONS
from tests.upstreams.stub import Stub, reply

CANARY = "canary-9f31"
STUDIO = """
[upstreams.poll]
path = "renders/{task}"
status = "state"
progress = "done"
scale = "length(total)"
urls = "files"
"""

Capture = pytest.CaptureFixture[str]


async def examined(
    folder: Path, token: str, *arguments: str, command: tuple[str | Path, ...] = (SCRIPT, "doctor")
) -> tuple[int, list[str]]:
    """The status with which `relay doctor` ends, and the lines it prints on either output."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")} | {"TOKEN": token}

    def run() -> tuple[int, list[str]]:
        with TemporaryFile() as printed:
            output = printed.fileno()
            if command == (SCRIPT, "doctor"):
                with warm.start(
                    ["doctor", *arguments], folder=folder, environ=environ, stdout=output, stderr=output
                ) as process:
                    status = process.wait(PATIENCE)
            else:
                done = subprocess.run(
                    [*command, *arguments],
                    cwd=folder,
                    env=environ,
                    stdout=output,
                    stderr=output,
                    timeout=PATIENCE,
                    check=False,
                )
                status = done.returncode
            printed.seek(0)
            return status, printed.read().decode().splitlines()

    return await asyncio.to_thread(run)


def write(folder: Path, kind: str, base_url: str, keys: str = "", journal: str = "memory:") -> None:
    upstream = f'[[upstreams]]\nkind = "{kind}"\nbase_url = "{base_url}"\ntoken = "env:TOKEN"\n'
    server = "[server]\nport = 0\nmax_streams = 100\n"
    (folder / "relay.toml").write_text(f'{server}[journal]\nurl = "{journal}"\n{upstream}{keys}')


async def test_a_declared_upstream_shows_what_each_expression_finds_and_what_it_means(tmp_path: Path) -> None:
    async with ScriptedRunway(token=CANARY, clock=ManualClock()) as server:
        write(tmp_path, "http", server.url, DECLARATIONS["runway"])
        task = server.add_task()
        status, lines = await examined(tmp_path, CANARY, "--task", task)
    request = lines.pop(7)
    assert request.startswith(f"request              GET {server.url}/v1/tasks/{task}: 200 in ")
    assert (status, lines) == (
        0,
        [
            "configuration        1 upstream, 1 sink",
            "journal              in memory; a relay that ends forgets its jobs",
            "descriptors          enough for 100 streams (max_streams)",
            "models               http (http)",
            "upstream             http, of kind http, polled for each task by itself",
            "token                is there",
            f"address              {server.url} can be reached",
            'poll.status          status -> "THROTTLED" (text)',
            "poll.progress        progress -> nothing",
            "poll.urls            output -> nothing",
            "poll.error           failure -> nothing",
            "poll.code            failureCode -> nothing",
            "means                queued",
            "all is well",
        ],
    )


@pytest.mark.parametrize(("kind", "scripted"), [("runway", ScriptedRunway), ("sora", ScriptedUpstream)])
async def test_a_kind_that_is_built_in_shows_its_request_and_what_it_means(
    kind: str, scripted: Any, tmp_path: Path
) -> None:
    async with scripted(token=CANARY, clock=ManualClock()) as server:
        write(tmp_path, kind, server.url)
        status, lines = await examined(tmp_path, CANARY, "--task", server.add_task())
    assert (status, lines[-2:]) == (0, ["means                queued", "all is well"])
    assert [line for line in lines if line.startswith("request ")]


async def test_the_models_that_chat_clients_may_name_are_listed_with_their_upstreams(tmp_path: Path) -> None:
    async with ScriptedUpstream(token=CANARY) as server:
        write(tmp_path, "sora", server.url)
        status, lines = await examined(tmp_path, CANARY)
        assert (status, lines[3]) == (0, "models               sora (sora)")
        write(tmp_path, "sora", server.url, '[gateway.models."sora-video"]\nupstream = "sora"\n')
        status, lines = await examined(tmp_path, CANARY)
        assert (status, lines[3]) == (0, "models               sora-video (sora)")


async def test_a_model_of_an_upstream_that_accepts_no_submissions_is_a_problem(tmp_path: Path) -> None:
    async with ScriptedRunway(token=CANARY) as server:
        write(tmp_path, "http", server.url, STUDIO)
        status, lines = await examined(tmp_path, CANARY)
        assert (status, lines[3]) == (0, "models               none, since no upstream accepts submissions")
        write(tmp_path, "http", server.url, f'{STUDIO}[gateway.models.fast]\nupstream = "http"\n')
        status, lines = await examined(tmp_path, CANARY)
    assert (status, lines[3]) == (
        1,
        "models               problem: [gateway] model 'fast': the upstream 'http' accepts no submissions; name another"
        " one",
    )


async def test_nothing_is_asked_of_an_upstream_without_a_task_but_for_a_list(tmp_path: Path) -> None:
    async with ScriptedRunway(token=CANARY) as server:
        write(tmp_path, "runway", server.url)
        status, lines = await examined(tmp_path, CANARY)
        assert (status, dict(server.requests)) == (0, {})
    assert lines[-2:] == ["not polled           name a task with --task to see what is found", "all is well"]
    async with ScriptedUpstream(token=CANARY) as server:
        write(tmp_path, "sora", server.url)
        server.add_task()
        status, lines = await examined(tmp_path, CANARY)
    assert (status, lines[-2:]) == (
        0,
        ["listed               1 task; name one with --task to see what is found", "all is well"],
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of descriptors")
async def test_fewer_descriptors_than_max_streams_needs_are_amiss_and_it_says_how_many(tmp_path: Path) -> None:
    limited = ("sh", "-c", 'ulimit -n 300 && exec "$0" doctor', SCRIPT)
    async with ScriptedRunway(token=CANARY) as server:
        write(tmp_path, "runway", server.url)
        status, lines = await examined(tmp_path, CANARY, command=limited)
    assert (status, lines[2], lines[-1]) == (
        1,
        "descriptors          problem: 100 streams (max_streams) and what else is open need 328 descriptors, and this"
        " process may have 300; raise its hard limit (ulimit -Hn, LimitNOFILE= of systemd), or lower [server]"
        " max_streams to 72",
        "1 problem found",
    )


EVERYTHING = """
[upstreams.poll]
path = "renders/{task}"
status = "state"
progress = "done"
scale = 1
queue_position = "place"
eta = "left"
log = "log"
urls = "files"
error = "error.message"
code = "error.code"
"""


async def test_each_expression_is_shown_with_what_it_found_and_a_failure_with_its_reason(tmp_path: Path) -> None:
    body = {"state": "failed", "place": 2, "left": 3.5, "log": ["a", "b"], "error": {"message": "broken", "code": 7}}
    async with Stub(reply(json.dumps(body))) as stub:
        write(tmp_path, "http", stub.url, EVERYTHING)
        status, lines = await examined(tmp_path, CANARY, "--task", "r-1")
    assert (status, lines[8:]) == (
        0,
        [
            'poll.status          state -> "failed" (text)',
            "poll.progress        done -> nothing",
            "poll.queue_position  place -> 2 (number)",
            "poll.eta             left -> 3.5 (number)",
            'poll.log             log -> ["a", "b"] (list)',
            "poll.urls            files -> nothing",
            'poll.error           error.message -> "broken" (text)',
            "poll.code            error.code -> 7 (number)",
            "means                failed, 2 lines of log, upstream: broken",
            "all is well",
        ],
    )


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("<!doctype html><p>hello", "malformed            problem: the answer is an HTML page; JSON was expected"),
        ("", "malformed            problem: the answer is empty; JSON was expected"),
        ('{"state": ', "malformed            problem: the answer is not JSON; JSON was expected"),
        ("[" * 40 + "]" * 40, "malformed            problem: the answer nests deeper than 32 levels"),
    ],
)
async def test_an_answer_that_cannot_be_read_is_told_in_a_sentence(body: str, said: str, tmp_path: Path) -> None:
    async with Stub(reply(body)) as stub:
        write(tmp_path, "http", stub.url, STUDIO)
        status, lines = await examined(tmp_path, CANARY, "--task", "r-1")
    assert (status, lines[-2:]) == (1, [said, "1 problem found"])


async def test_a_submit_is_made_once_and_only_when_it_is_asked_for(tmp_path: Path) -> None:
    async with ScriptedRunway(token=CANARY) as server:
        write(tmp_path, "http", server.url, DECLARATIONS["runway"])
        status, lines = await examined(tmp_path, CANARY, "--submit", '{"promptText": "a cat"}')
        (task,) = server.tasks
        submits = [count for name, count in server.requests.items() if name.startswith("POST")]
    assert (status, submits, lines[-1]) == (0, [1], "all is well")
    assert f"task                 {task}" in lines


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"state": "running", "total": 3},
         "poll.scale           problem: length(total) -> length() does not take a number"),
        ({"state": "renderring", "total": ""},
         "state                problem: the word 'renderring' is not known here; polling goes on, without a state"),
        ({"state": "succeeded", "total": ""},
         "result               problem: the task has succeeded, and no file is found"),
        ({"total": ""}, "malformed            problem: poll.status, 'state', finds nothing in the answer"),
    ],
)  # fmt: skip
async def test_what_is_amiss_is_said_and_is_status_1(body: object, problem: str, tmp_path: Path) -> None:
    async with Stub(reply(json.dumps(body))) as stub:
        write(tmp_path, "http", stub.url, STUDIO)
        # The connection that is tried first takes no answer.
        status, lines = await examined(tmp_path, CANARY, "--task", "r-1")
    assert (status, problem in lines, lines[-1]) == (1, True, "1 problem found")


@pytest.mark.parametrize(
    ("progress", "shown", "problem"),
    [
        (0.5, "running, 50%", None),
        ("42%", "running, 42%", None),
        (170, "running, 100%", "170 is beyond its scale, and is shown as 100%"),
        (-1, "running, 0%", "-1 is beyond its scale, and is shown as 0%"),
        ("soon", "running", "'soon' is no figure, so no percentage is shown"),
    ],
)
async def test_a_figure_that_is_not_shown_as_it_was_sent_is_amiss(
    progress: object, shown: str, problem: str | None, tmp_path: Path
) -> None:
    async with Stub(reply(json.dumps({"state": "running", "done": progress}))) as stub:
        write(tmp_path, "http", stub.url, STUDIO.replace('scale = "length(total)"\n', "scale = 1\n"))
        status, lines = await examined(tmp_path, CANARY, "--task", "r-1")
    at = lines.index(f"means                {shown}")
    assert (status, lines[at + 1 :]) == (
        (0, ["all is well"])
        if problem is None
        else (1, [f"progress             problem: {problem}", "1 problem found"])
    )


async def test_a_token_that_is_refused_and_an_address_where_nobody_listens_are_amiss(tmp_path: Path) -> None:
    async with ScriptedRunway(token="another") as server:
        write(tmp_path, "runway", server.url)
        status, lines = await examined(tmp_path, CANARY, "--task", "t")
    assert status == 1
    assert "auth                 problem: the upstream answered 401: The authentication token is not valid." in lines
    status, lines = await examined(tmp_path, CANARY)
    assert (status, lines[-2:]) == (
        1,
        [
            f"address              problem: no connection to {server.url}: nobody listens there; check base_url",
            "1 problem found",
        ],
    )


async def test_a_journal_that_is_none_is_amiss_and_is_left_as_it_is(tmp_path: Path) -> None:
    async with ScriptedRunway(token=CANARY) as server:
        write(tmp_path, "runway", server.url, journal="sqlite:other.db")
        (tmp_path / "other.db").write_bytes(b"something else altogether")
        status, lines = await examined(tmp_path, CANARY)
    assert (status, lines[1].startswith("journal              problem: "), (tmp_path / "other.db").read_bytes()) == (
        1,
        True,
        b"something else altogether",
    )


async def test_secrets_are_masked_and_what_acts_on_a_terminal_is_shown_as_it_is_written(tmp_path: Path) -> None:
    body = {"state": f"\x1b[2J{CANARY}", "total": "", "files": ["https://r/a.mp4?sig=abc"]}
    async with Stub(reply(json.dumps(body))) as stub:
        write(tmp_path, "http", stub.url, STUDIO)
        status, lines = await examined(tmp_path, CANARY, "--task", "r-1")
    said = "\n".join(lines)
    assert (status, CANARY in said, "\x1b" in said, "sig=abc" in said) == (1, False, False, False)
    assert "***" in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--task", "a", "--submit", "{}"],
         "--task asks about a task that exists, and --submit makes one; give one of them; see relay doctor --help"),
        (["--submit", "[]"], "this is no JSON object, such as"),
        (["--upstream", "htp"], "no upstream is called 'htp'; did you mean 'http'? known are http"),
        (["--config", "none.toml"], "cannot read none.toml"),
    ],
)  # fmt: skip
def test_a_mistake_of_use_is_one_line_and_status_2(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", CANARY)
    write(tmp_path, "http", "http://127.0.0.1:9", STUDIO)
    assert main(["doctor", *arguments]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n"), line in said.err) == ("", 1, True)


def test_an_expression_with_a_mistake_is_one_line_and_status_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKEN", CANARY)
    write(tmp_path, "http", "http://127.0.0.1:9", STUDIO.replace('"state"', '"state["'))
    assert main(["doctor"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == (
        "",
        "relay: upstream http: poll.status is no JMESPath expression: it breaks off at character 7\n",
    )
