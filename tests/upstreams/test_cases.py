"""What the answers and declarations of `tests/cases` come to (the README there says where they are from)."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from relay.cli.build import build_upstream
from relay.config import load
from relay.errors import ConfigError
from relay.events import Done, Event, Log
from relay.jobs import JobState, Patience, decide_listed
from relay.jobs.observations import Observation
from relay.testing import ManualClock
from relay.upstreams import ComfyUI, Declared, Kling, Luma, OpenAIVideos, Upstream
from tests.upstreams.stub import Stub, reply

CASES = Path(__file__).parents[1] / "cases"
SERVERS = sorted((CASES / "servers").rglob("*.toml"))
ENVIRON: dict[str, str] = dict.fromkeys(["SCR_BASIC", "TR_BASIC", "FLOWER_BASIC", "RCLONE_BASIC"], "c2VjcmV0")


def case(name: str) -> str:
    return (CASES / f"{name}.json").read_text()


async def observed(upstream: Upstream, task: str = "t1") -> Observation:
    async with upstream:
        seen = (await upstream.observe([task])).tasks[task]
    assert isinstance(seen, Observation), seen
    return seen


def events(seen: Observation) -> tuple[Event, ...]:
    return decide_listed(JobState(), seen, Patience(), two_step=False).events


async def declared(answer: str, folder: Path) -> tuple[Observation, str]:
    """What the declaration that stands beside the cases makes of *answer*, and where that came from."""
    async with Stub(reply(answer)) as stub:
        path = folder / "relay.toml"
        path.write_text((CASES / "lro.toml").read_text().replace("http://127.0.0.1:PORT", stub.url))
        (settings,) = load(path, {}).upstreams
        return await observed(build_upstream(settings, ManualClock())), stub.url


async def test_an_empty_object_that_is_sent_as_a_list_costs_no_state() -> None:
    async with Stub(reply(case("luma-empty-list"))) as stub:
        assert await observed(Luma(stub.url, "token")) == Observation(
            status="running",
            raw_status="dreaming",
            warning="a part of the answer cannot be read, and is left out: `assets` is a list",
        )


@pytest.mark.parametrize(
    ("name", "url", "media_type"),
    [
        ("kling-number-id", "https://cdn.example/1.mp4", "video/mp4"),
        ("kling-images", "https://cdn.example/1.png", "image/png"),
    ],
)
async def test_a_task_of_kling_is_done_with_its_files(name: str, url: str, media_type: str) -> None:
    async with Stub(reply(case(name))) as stub:
        seen = await observed(Kling(stub.url, "token"))
    assert (seen.warning, *events(seen)) == (None, Done(urls=(url,), media_types=(media_type,)))


async def test_a_code_that_is_a_text_is_read() -> None:
    async with Stub(reply(case("kling-code-text"))) as stub:
        assert await observed(Kling(stub.url, "token")) == Observation(status="running", raw_status="processing")


async def test_the_word_done_is_a_success_with_the_file_that_the_answer_names() -> None:
    async with Stub(reply(case("xai-done"))) as stub:
        seen = await observed(OpenAIVideos(stub.url, "token"))
    assert events(seen) == (Done(urls=("https://vidgen.example/v/1.mp4",), media_types=("video/mp4",)),)


async def test_the_word_done_is_a_success_also_where_the_declaration_looks_for_files_elsewhere(tmp_path: Path) -> None:
    seen, _ = await declared(case("xai-done"), tmp_path)
    warning = Log(line="the task has succeeded, and poll.urls finds nothing", severity="warning")
    assert events(seen) == (warning, Done())


async def test_a_figure_that_is_a_text_is_read() -> None:
    async with Stub(reply(case("openai-videos-progress-text"))) as stub:
        seen = await observed(OpenAIVideos(stub.url, "token"))
    assert (seen.status, seen.percent, seen.source, seen.raw_percent) == ("running", 42, "parsed", "42")


async def test_addresses_are_relative_to_where_the_answer_comes_from(tmp_path: Path) -> None:
    seen, here = await declared(case("relative-urls"), tmp_path)
    urls = ("http://cdn.example/x.mp4", f"{here}/files/1.mp4")
    assert events(seen) == (Done(urls=urls, media_types=("video/mp4", "video/mp4")),)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("b#2.mp4", "b%232.mp4"),
        ("what?.mp4", "what%3F.mp4"),
        ("50%.mp4", "50%25.mp4"),
        ("a b&c.mp4", "a+b%26c.mp4"),
        ("\u00e4.mp4", "%C3%A4.mp4"),
    ],
)
async def test_a_file_of_comfyui_is_called_whatever_it_is(name: str, query: str) -> None:
    history = case("comfy-hash-name").replace("b#2.mp4", name)
    async with Stub(reply('{"queue_running": [], "queue_pending": []}'), reply(history)) as stub:
        upstream = ComfyUI(stub.url, clock=ManualClock())
        async with upstream._http:
            seen: Any = (await upstream.observe(["t1"])).tasks["t1"]
    url = f"{stub.url}/view?filename={query}&subfolder=&type=output"
    assert events(seen) == (Done(urls=(url,), media_types=("video/mp4",)),)


# Declarations for real servers


def built(path: Path, text: str | None = None, folder: Path | None = None) -> list[Upstream]:
    if text is not None and folder is not None:
        path = folder / "relay.toml"
        path.write_text(text)
    return [build_upstream(settings, ManualClock()) for settings in load(path, ENVIRON).upstreams]


@pytest.mark.parametrize("path", SERVERS, ids=lambda path: str(path.relative_to(CASES)))
def test_a_declaration_can_be_used_unless_it_would_send_the_name_of_a_secret(path: Path) -> None:
    if path.parent.name == "echo" and path.stem != "codes":
        with pytest.raises(ConfigError, match=r'poll.query has "env:RCLONE_BASIC", and takes no secret') as error:
            built(path)
        assert "\n" not in str(error.value)
    else:
        assert all(isinstance(upstream, Declared) for upstream in built(path))


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("token:s3cretToken", "token:env:ARIA2_SECRET", 'poll.body has "env:ARIA2_SECRET"'),
        ("token:s3cretToken", "env:aria2_secret", 'poll.body has "env:aria2_secret"'),
        ("token:s3cretToken", "file:secret.txt", 'poll.body has "file:secret.txt"'),
        ("interval = 1", 'headers = { X-Key = "env:KEY" }', 'headers.X-Key has "env:KEY"'),
        ("interval = 1", 'headers = { X-Key = "Bearer env:KEY" }', 'headers.X-Key has "env:KEY"'),
        ("interval = 1", 'auth_scheme = "env:KEY"', 'auth_scheme has "env:KEY"'),
        ('path = "jsonrpc"', 'path = "jsonrpc/env:KEY"', 'poll.path has "env:KEY"'),
    ],
)
def test_a_secret_where_none_is_taken_is_an_error_that_says_what_to_do(
    old: str, new: str, where: str, tmp_path: Path
) -> None:
    text = (CASES / "servers/aria2/working.toml").read_text()
    assert old in text
    line = f"{re.escape(where)}, and takes no secret: .* use token, auth_header and auth_scheme"
    with pytest.raises(ConfigError, match=line):
        built(Path(), text.replace(old, new), tmp_path)


@pytest.mark.parametrize("text", ["file:///srv/a.mp4", "the environment:PROD", "profile:a", "tag env:prod of it"])
def test_a_text_that_only_looks_a_little_like_a_secret_is_sent(text: str, tmp_path: Path) -> None:
    declaration = (CASES / "servers/aria2/working.toml").read_text().replace("token:s3cretToken", text)
    assert built(Path(), declaration, tmp_path)


ARIA2 = {
    "gid": "9",
    "status": "complete",
    "completedLength": "1048576",
    "totalLength": "1048576",
    "errorCode": "0",
    "files": [{"path": "/srv/a.bin", "length": "1048576"}],
}


@pytest.mark.parametrize(
    ("keys", "end"),
    [
        ("", Done()),
        ('result = "result.files[].path"', Done(result=["/srv/a.bin"])),
        ('result = "result.files[0].path"', Done(result="/srv/a.bin")),
    ],
)
async def test_a_download_to_a_disk_is_done_without_an_address(keys: str, end: Done, tmp_path: Path) -> None:
    declaration = re.sub(r"(?m)^content = .*$", keys, (CASES / "servers/aria2/working.toml").read_text())
    async with Stub(reply(json.dumps({"jsonrpc": "2.0", "id": "relay", "result": ARIA2}))) as stub:
        (upstream,) = built(Path(), declaration.replace("http://127.0.0.1:28002", stub.url), tmp_path)
        assert events(await observed(upstream, "9")) == (end,)
