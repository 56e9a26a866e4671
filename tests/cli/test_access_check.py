"""`relay access check` says what the relay answers: compared with the answers of a relay, on every route."""

import os
from collections.abc import AsyncIterator
from itertools import count, product
from pathlib import Path

import pytest
from aiohttp import ClientSession

from relay import Relay, SqliteJournal
from relay.cli import main
from relay.testing import ManualClock
from tests.relay.scripted import RUNNING, TwoStep, story
from tests.web.access.keys import ANN, BOB, OPERATOR, READER, SETTINGS, bearer
from tests.web.serving import serve_app
from web import create_app
from web.middleware.access_check import RULES

Capture = pytest.CaptureFixture[str]

KEYS = {"ann": ANN, "bob": BOB, "reader": READER, "operator": OPERATOR}
REFUSALS = ("401", "403", "404", "405")
JOB = "job_0"


def table(name: str, scopes: str, jobs: str = "own") -> str:
    return f'[[access.keys]]\nname = "{name}"\nkey = "env:{name.upper()}"\nscopes = "{scopes}"\njobs = "{jobs}"\n'


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys of the relay that is asked, as a configuration."""
    monkeypatch.chdir(tmp_path)
    for name, key in KEYS.items():
        monkeypatch.setenv(name.upper(), key)
    keys = "".join(table(key.name, key.scopes, str(key.jobs)) for key in SETTINGS.keys)
    proxy = '[access.proxy]\nfrom = ["unix"]\nscopes = "jobs:read jobs:cancel"\n'
    jwt = '[access.jwt]\nissuer = "https://id.example"\naudience = "relay"\nalgorithms = ["HS256"]\nkey = "env:ANN"\n'
    Path("relay.toml").write_text(f'[journal]\nurl = "sqlite:relay.db"\n{keys}{proxy}{jwt}')


@pytest.fixture
async def asked(configured: None, tmp_path: Path) -> AsyncIterator[ClientSession]:
    """A client of a relay in which ann follows job_0."""
    names = count()
    relay = Relay(
        [TwoStep(story({"t": RUNNING}))],
        clock=ManualClock(),
        journal=SqliteJournal(tmp_path / "relay.db"),
        new_job_id=lambda: f"job_{next(names)}",
    )
    async with serve_app(create_app(relay, access=SETTINGS, send_timeout=3_600)) as client:
        body = {"upstream": "scripted", "task": "t"}
        async with client.post("/v1/jobs", json=body, headers=bearer(ANN)) as answer:
            assert (await answer.json())["job"] == JOB
        yield client


def routes() -> list[tuple[str, str]]:
    """Every method and path that has a rule, with a job in it that there is, and with one that there is not."""
    found: set[tuple[str, str]] = set()
    rules = create_app(Relay([]))[RULES]
    for route, job in product(rules, (JOB, "job_none")):
        assert route.resource is not None
        path = route.resource.canonical.replace("{response}", f"resp_{job}")
        for variable in ("{job}", "{video}"):
            path = path.replace(variable, job)
        found.add((route.method, path))
    return sorted(place for place in found if "{" not in place[1])  # others ask for no access


def checked(capsys: Capture, *arguments: str) -> tuple[int, str]:
    status = main(["access", "check", *arguments])
    printed = capsys.readouterr()
    return status, (printed.out or printed.err).strip()


@pytest.mark.parametrize("name", ["", *KEYS])
async def test_it_says_what_a_relay_answers_on_every_route(name: str, asked: ClientSession, capsys: Capture) -> None:
    headers = bearer(KEYS[name]) if name else {}
    who = ("--as", name) if name else ()
    differing: list[tuple[str, str, int, str]] = []
    for method, path in [*routes(), ("PUT", "/v1/jobs"), ("GET", "/v1/nothing"), ("GET", f"/v1/events?job={JOB}")]:
        exit_status, line = checked(capsys, *who, method, path)
        said = line.partition(":")[0]
        async with asked.request(method, path, headers=headers) as answer:
            actual = str(answer.status)
        if said.startswith("2"):
            agrees = actual not in REFUSALS or (actual, path.endswith("/content")) == ("404", True)  # it has no file
        else:
            agrees = actual == said
        if not agrees or exit_status != (0 if said.startswith("2") else 1):
            differing.append((method, path, answer.status, line))
    assert differing == []


async def test_it_says_why(asked: ClientSession, capsys: Capture) -> None:
    lines = {
        ("--as", "ann", "GET", f"/v1/jobs/{JOB}"): (0, "200: key:ann has jobs:read, and owns job_0"),
        ("--as", "ann", "post", f"/v1/jobs/{JOB}/cancel"): (0, "2xx: key:ann has jobs:cancel, and owns job_0"),
        ("--as", "key:bob", "GET", f"/v1/jobs/{JOB}"): (
            1,
            "404: job_0 belongs to key:ann, and is answered to key:bob as an unknown job is",
        ),
        ("--as", "bob", "GET", "/v1/jobs/job_x"): (1, "404: job_x is not in the journal relay.db"),
        ("--as", "operator", "GET", f"/v1/events?job={JOB}"): (0, "200: key:operator has jobs:read, and sees all jobs"),
        ("--as", "ann", "GET", "/metrics"): (
            1,
            "403: it needs operate, and key:ann has jobs:cancel jobs:read jobs:submit",
        ),
        ("GET", "/v1/jobs"): (1, "401: it needs an access, and nobody has none"),
        ("GET", "/healthz"): (0, "200: it asks for no access"),
        ("--as", "proxy:carol", "GET", f"/v1/jobs/{JOB}"): (
            1,
            "404: job_0 belongs to key:ann, and is answered to proxy:carol as an unknown job is",
        ),
        ("--as", "proxy:carol", "POST", "/v1/jobs"): (
            1,
            "403: it needs jobs:submit, and proxy:carol has jobs:cancel jobs:read",
        ),
        ("--as", "jwt:dan", "--scopes", "operate", "GET", "/v1/sinks"): (0, "200: jwt:dan has operate"),
        ("--as", "jwt:dan", "--scopes", "", "GET", "/v1/session"): (0, "200: jwt:dan has an access"),
    }
    assert {arguments: checked(capsys, *arguments) for arguments in lines} == lines


def test_without_access_everybody_may_do_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert checked(capsys, "GET", "/metrics") == (
        0,
        "200: everybody, while [access] is not configured, has operate",
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--as", "an", "GET", "/v1/jobs"], "no key is called 'an'; did you mean 'ann'?"),
        (["--as", "jwt:dan", "GET", "/v1/jobs"], "what jwt:SUB may do is in the scope claim of its token"),
        (["--as", "jwt:dan", "--scopes", "job:read", "GET", "/"], "there is no scope 'job:read'; did you mean"),
        (["--as", "ann", "--scopes", "operate", "GET", "/"], "--scopes are those of a token; say whose"),
        (["--as", "ann", "GET", "v1/jobs"], "'v1/jobs' is no path of a relay, such as /v1/jobs"),
        (["--as", "ann", "GET", "//elsewhere/v1/jobs"], "'//elsewhere/v1/jobs' is no path of a relay"),
        (["--as", "ann", "GET", f"/v1/jobs/{JOB}"], "there is no journal relay.db; name the file of a relay"),
    ],
)
@pytest.mark.usefixtures("configured")
def test_a_mistake_is_one_line_and_status_2(arguments: list[str], said: str, capsys: Capture) -> None:
    status, line = checked(capsys, *arguments)
    assert status == 2
    assert said in line
    assert "\n" not in line


@pytest.mark.usefixtures("configured")
def test_a_journal_in_memory_cannot_be_asked(capsys: Capture) -> None:
    config = Path("relay.toml")
    config.write_text(config.read_text().replace("sqlite:relay.db", "memory:"))
    status, line = checked(capsys, "--as", "ann", "GET", f"/v1/jobs/{JOB}")
    assert (status, "the running relay alone knows whose job that is" in line) == (2, True)
    assert checked(capsys, "--as", "ann", "GET", "/v1/jobs")[0] == 0


@pytest.mark.usefixtures("configured")
def test_two_keys_of_one_name_are_both_looked_at(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXT", "rlk_next-0123456789-0123456789-0123456789")
    with Path("relay.toml").open("a") as file:
        file.write('[[access.keys]]\nname = "ann"\nkey = "env:NEXT"\nscopes = "jobs:read"\n')
    assert checked(capsys, "--as", "ann", "POST", "/v1/jobs") == (
        1,
        "2xx: key:ann has jobs:submit\n403: it needs jobs:submit, and key:ann has jobs:read",
    )
    assert os.environ["NEXT"] not in checked(capsys, "--as", "ann", "GET", "/v1/jobs")[1]
