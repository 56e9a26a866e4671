"""The webhook of a table of relay.toml: what it becomes, and what is refused with the name of the key."""

from pathlib import Path
from typing import Any

import pytest

from relay.cli.build import build_sinks
from relay.cli.redaction import redactor_of
from relay.config import load
from relay.errors import ConfigError
from relay.events import Done
from sinks.kinds import SINK_KINDS
from sinks.webhook import WebhookSink
from tests.sinks.webhook.receiver import KEY, a_receiver, a_record, verify

ENVIRON = {"KEY": KEY, "URL": "https://hooks.example/services/canary", "TOKEN": "canary", "BAD": "whsec_canary"}


def built(tmp_path: Path, table: str) -> WebhookSink:
    path = tmp_path / "relay.toml"
    path.write_text(f'[[sinks]]\nkind = "webhook"\nname = "hook"\n{table}')
    (options,) = build_sinks(load(path, ENVIRON, SINK_KINDS))
    assert isinstance(options.sink, WebhookSink)
    return options.sink


async def test_each_key_of_its_table_reaches_the_sink(tmp_path: Path) -> None:
    async with a_receiver() as receiver:
        sink = built(
            tmp_path,
            f'url = "{receiver.url}"\nsecret = "env:KEY"\nallow_private = true\nsource = "https://relay.example"\n'
            'timeout = "20s"\nretry_for = "1h"\nlanes = 3\n'
            'headers = { X-Team = "video", Authorization = "env:TOKEN" }\n',
        )
        async with sink:
            await sink.work(a_record(Done()))
    (delivery,) = receiver.deliveries
    verify(delivery, KEY)
    assert (delivery.headers["x-team"], delivery.headers["authorization"]) == ("video", "canary")
    assert b'"source":"https://relay.example/v1/jobs/job_1"' in delivery.body
    assert (sink.lanes, sink.timeout, sink.retries.within, sink.retries.base, sink.retries.cap) == (
        3,
        40.0,
        3_600.0,
        5.0,
        14_400.0,
    )


def test_without_other_keys_it_is_bounded_as_documented(tmp_path: Path) -> None:
    sink = built(tmp_path, 'url = "https://hooks.example/"\nsecret = "env:KEY"\n')
    assert (sink.lanes, sink.timeout, sink.retries.within) == (10, 30.0, 72 * 3_600.0)


def test_the_url_of_a_chat_may_be_a_secret(tmp_path: Path) -> None:
    sink = built(tmp_path, 'url = "env:URL"\ntemplate = "slack"\n')
    assert repr(sink) == "<WebhookSink to hooks.example>"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("", '[[sinks]] needs the key \'url\': an https URL, or "env:NAME" or "file:PATH"'),
        ("url = 1", '[[sinks]] url must be an https URL, or "env:NAME" or "file:PATH", not 1'),
        ('url = "env:NONE"', "[[sinks]] url comes from the environment variable NONE, which is not set"),
        (
            f'url = "https://hooks.example/"\nsecret = "{KEY}"',
            '[[sinks]] secret is a secret; keep it out of the file, and write "env:NAME" or "file:PATH" here',
        ),
        (
            'url = "https://hooks.example/"\nheaders = { Authorization = "Bearer env:TOKEN" }',
            "[[sinks]] headers.Authorization has env:TOKEN as a part of it, which is sent as it stands; write it alone",
        ),
        ('url = "https://hooks.example/"\nheaders = "X: 1"', "[[sinks]] headers must be a table of headers"),
        (
            'url = "https://hooks.example/"\nheaders = { X = 1 }',
            '[[sinks]] headers.X must be text, or "env:NAME" or "file:PATH", not 1',
        ),
        ('url = "https://hooks.example/"\nports = [0]', "[[sinks]] ports must be a list of ports, such as [443, 8443]"),
        (
            'url = "https://hooks.example/"\ntemplate = "teams"',
            "[[sinks]] template must be one of cloudevents, slack, discord",
        ),
    ],
)
def test_a_mistake_in_its_table_is_named_with_its_key(tmp_path: Path, table: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(tmp_path, table)
    assert str(caught.value).split(": ", 1)[1].startswith(problem)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (
            'url = "https://10.0.0.1/"\nsecret = "env:KEY"',
            "sink hook: the url of a webhook leads to 10.0.0.1, which is not a public address; if that is meant, say"
            " allow_private = true",
        ),
        (
            'url = "https://hooks.example/"\nsecret = "env:BAD"',
            "sink hook: the secret of a webhook is 4 bytes long; a key has 24 to 64 bytes",
        ),
        (
            'url = "https://hooks.example/"',
            "sink hook: a webhook with the template cloudevents needs a secret (whsec_...), with which it is signed",
        ),
    ],
)
def test_what_cannot_be_sent_is_refused_at_the_start(tmp_path: Path, table: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(tmp_path, table)
    assert str(caught.value) == problem


def test_notices_of_the_relay_hide_what_is_secret_in_its_table(tmp_path: Path, caplog: Any) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(
        '[[sinks]]\nkind = "webhook"\nurl = "env:URL"\nsecret = "env:KEY"\nheaders = { Authorization = "env:TOKEN" }\n'
    )
    shown = redactor_of(load(path, ENVIRON, SINK_KINDS))(f"somebody's code failed: {ENVIRON['URL']} {KEY} canary")
    assert "canary" not in shown
    assert KEY not in shown
