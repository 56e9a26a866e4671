"""Whatever cannot work in a declaration is one line at start, which names the key."""

from pathlib import Path

import pytest

from relay.errors import ConfigError
from relay.testing import ManualClock
from tests.upstreams.declared.declarations import declared

POLL = """
[upstreams.poll]
path = "renders/{task}"
status = "state"
progress = "done"
scale = "total"
urls = "files[].href"
"""
SUBMIT = '[upstreams.submit]\npath = "renders"\nid = "id"\n'
RESULT = '[upstreams.result]\npath = "files/{ref}"\nurls = "url"\n'
STATES = "queued, running, succeeded, failed, cancelled, unknown"
NO_JMESPATH = "is no JMESPath expression"


def refused(keys: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        declared(keys, "http://api", "t", folder, ManualClock())
    line = str(caught.value)
    assert "\n" not in line
    return line.removeprefix("upstream http: ").replace(f"{folder}/relay.toml: [[upstreams]] ", "")


def test_the_declaration_without_a_mistake_is_taken(tmp_path: Path) -> None:
    declared(POLL + SUBMIT + RESULT.replace("{ref}", "{task}"), "http://api", "t", tmp_path, ManualClock())


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("status =", "staus =", "poll has an unknown key 'staus'; did you mean 'status'?"),
        ('status = "state"\n', "", "poll needs the key 'status': a JMESPath expression, as text"),
        ('"state"', "3", "poll status must be a JMESPath expression, as text, not 3"),
        ('"state"', '"sta te"', f"poll.status {NO_JMESPATH}: 'te' at character 5 is not expected"),
        ('"state"', '"lower(state)"',
         f"poll.status {NO_JMESPATH}: there is no function 'lower'; did you mean 'floor'?"),
        ('"total"', '"to["', f"poll.scale {NO_JMESPATH}: it breaks off at character 4"),
        ('"total"', "0", "poll.scale must be a number over 0, or an expression that finds one"),
        ('"total"', "true",
         "poll scale must be a number such as 1 or 100, or a JMESPath expression, as text, not true"),
        ('scale = "total"\n', "",
         "poll needs the key 'scale': what progress is out of, 1 or 100, or an expression that finds it"),
        ('progress = "done"\n', "", "poll.scale is of no use without poll.progress"),
        ("{task}", "{tsk}", "poll.path has the unknown placeholder {tsk}; did you mean 'task'?"),
        ("/{task}", "",
         "poll.path must say which task, as in videos/{task}; or poll.items lists them all"),
        ("renders/", "../", "poll.path has a segment '.' or '..', which leads elsewhere"),
        ("renders/", "http://evil/", "poll.path is a path below base_url, without spaces, '?', '#' and '//';"
                                     " parameters go into query"),
        ("urls", 'method = "get"\nurls', "poll method must be one of GET, POST, PUT, PATCH, DELETE"),
        ("urls", "answers = [429]\nurls", "poll.answers has 429, which is about the request and not about a task"),
        ("urls", "answers = [500]\nurls", "poll answers must be a list of HTTP statuses from 400 to 499, not a list"),
        ("urls", 'items = "@"\nurls', "poll needs the key 'id' beside 'items': together they are a list of tasks"),
        ("urls", 'items = "@"\nid = "id"\nurls',
         "poll.path has the unknown placeholder {task}; there is nothing to put in here"),
        ("urls", "query = { a = \"{\" }\nurls",
         "poll.query has '{', which is no placeholder; a brace itself is written twice"),
        ("urls", "headers = { X-Api-Key = \"k\" }\nurls",
         "poll.headers has 'X-Api-Key', which holds a secret; use token, auth_header and auth_scheme"),
        ("urls", "headers = { \"a b\" = \"k\" }\nurls", "poll.headers has 'a b', which is no name of a header"),
        ("urls", 'headers = { a = "k\\nb: c" }\nurls', "poll.headers.a must be printable ASCII"),
        ("urls", 'content = "file"\nurls', "poll.content must say which task, as in videos/{task}/content"),
        ("\n[", "\nauth_header = \"a:b\"\n[", "auth_header has 'a:b', which is no name of a header"),
        ("\n[", "\nstates = { BUSY = \"runing\" }\n[",
         f"states.BUSY is 'runing', which is no state; did you mean 'running'? known are {STATES}"),
        ("\n[", "\ncodes = { 7 = \"polcy\" }\n[",
         "codes.7 is 'polcy', which is no kind of error; did you mean 'policy'?"
         " known are policy, auth, rate-limit, not-found, timeout, server, refused"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_poll_is_said_with_its_key(old: str, new: str, line: str, tmp_path: Path) -> None:
    assert refused(POLL.replace(old, new, 1), tmp_path) == line


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (SUBMIT.replace('id = "id"\n', ""), "submit needs the key 'id': a JMESPath expression, as text"),
        (SUBMIT + 'body = { a = "{inptu.b}" }',
         "submit.body has the unknown placeholder {inptu.b}; did you mean 'input'?"),
        (SUBMIT + "body = { day = 2026-01-01 }",
         "submit.body holds a date, which JSON does not have; write it as text"),
        (SUBMIT + "body = { n = nan }", "submit.body holds a number that JSON does not have"),
        (SUBMIT + 'error = "error["', f"submit.error {NO_JMESPATH}: it breaks off at character 7"),
        ('[upstreams.cancel]\npath = "stop"', "cancel.path must say which task, as in videos/{task}"),
        ('[upstreams.cancel]\npath = "{input.x}"',
         "cancel.path has the unknown placeholder {input.x}; known are task"),
        (RESULT, "result.path has the unknown placeholder {ref}; known are task"),
        (RESULT.replace("{ref}", "{task}").replace("urls", "error"),
         "result needs the key 'urls' or 'result': what to read in its answer"),
        (RESULT + 'ref = "a["', f"result.ref {NO_JMESPATH}: it breaks off at character 3"),
        ("[upstreams.sumbit]", "has an unknown key 'sumbit'; did you mean 'submit'?"),
    ],
)  # fmt: skip
def test_a_mistake_elsewhere_is_said_with_its_key(more: str, line: str, tmp_path: Path) -> None:
    assert refused(POLL + more, tmp_path) == line


def test_what_is_found_in_one_task_is_of_no_use_to_a_list(tmp_path: Path) -> None:
    keys = POLL.replace("/{task}", "").replace("urls", 'items = "@"\nid = "id"\nurls') + RESULT + 'ref = "file"'
    line = "result.ref is for a poll of one task, and poll.items makes it one of all"
    assert refused(keys, tmp_path) == line
