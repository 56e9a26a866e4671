"""The bodies of webhooks: a record as a CloudEvent for programs, or as one message for people in a chat."""

import re
import zlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from relay.events import Record
from relay.text import bounded

__all__ = ["TEMPLATES", "Template", "TemplateName", "delivery_id", "traceparent"]

TemplateName: TypeAlias = Literal["cloudevents", "slack", "discord"]

_encode: Final = msgspec.json.Encoder().encode


Body: TypeAlias = Callable[[Record, str], bytes]
"""Makes the body for a record of the relay at an address, which is a URI reference."""


class Template(NamedTuple):
    """How bodies are made, their media type, and whether a receiver verifies a signature."""

    body: Body
    media_type: str
    signed: bool
    terminal_only: bool
    """Whether only terminal records are sent unless the operator names types: a chat is no log."""


def delivery_id(record: Record) -> str:
    """The id of the record for its receivers: the same at each attempt, after a restart, and in another epoch.

    The sum at its end differs if a sequence number is used again, as after a power cut that took the last records away.
    """
    return f"{record.job}-{record.seq}-{zlib.crc32(record.json):08x}"


def traceparent(job: str) -> str:
    """The W3C trace context that stands for *job*: ids made from its own id, so every process makes the same."""
    digest = sha256(job.encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


class _CloudEvent(Struct, frozen=True):
    """The attributes of CloudEvents 1.0 in its JSON format; *timestamp* is the word of Standard Webhooks for *time*.

    *sequence* is text that sorts as the numbers do; its order is among the events of one *source*, which is a job.
    """

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: Any
    timestamp: Any
    datacontenttype: str
    sequence: str
    traceparent: str


def cloud_event(record: Record, source: str) -> bytes:
    """The record as a structured CloudEvent: `data` is the record itself, byte for byte as in every other output."""
    head = _CloudEvent(
        specversion="1.0",
        id=delivery_id(record),
        source=f"{source}/v1/jobs/{record.job}",
        # Standard Webhooks has letters, digits and underscores in a name, with full stops between.
        type=f"relay.job.{record.event.type.replace('-', '_')}",
        subject=record.job,
        time=record.at,
        timestamp=record.at,
        datacontenttype="application/json",
        sequence=f"{record.seq:020d}",
        traceparent=traceparent(record.job),
    )
    return b'%b,"data":%b}' % (_encode(head)[:-1], record.json)


MESSAGE_LIMIT: Final = 900
"""The most characters of a record's text in a chat. Escaped, that is still below Discord's limit of 2,000."""

_SLACK_CONTROL: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_DISCORD_MARKS: Final = re.compile(r"([\\*_~`|<>\[\]()#@])")


def slack_message(record: Record, _: str) -> bytes:
    """The record as a message of an incoming webhook of Slack.

    `<` begins a mention, a command such as <!channel>, or a link with a text of its own, so it is escaped; the rest of
    the mark-up, links that unfold and names that become mentions are switched off.
    """
    text = "".join(_SLACK_CONTROL.get(character, character) for character in _line(record))
    return _encode({"text": text, "mrkdwn": False, "link_names": False, "unfurl_links": False, "unfurl_media": False})


def discord_message(record: Record, _: str) -> bytes:
    """The record as a message of a webhook of Discord: without mark-up, mentions that notify, or embedded pages."""
    suppress_embeds = 1 << 2
    text = _DISCORD_MARKS.sub(r"\\\1", _line(record))
    return _encode({"content": text, "allowed_mentions": {"parse": []}, "flags": suppress_embeds})


def _line(record: Record) -> str:
    return f"{record.job}: {bounded(record.event.text, MESSAGE_LIMIT)}"


TEMPLATES: Final[Mapping[TemplateName, Template]] = {
    "cloudevents": Template(cloud_event, "application/cloudevents+json", signed=True, terminal_only=False),
    "slack": Template(slack_message, "application/json", signed=False, terminal_only=True),
    "discord": Template(discord_message, "application/json", signed=False, terminal_only=True),
}
