"""What the dialects of OpenAI-style clients say alike: the result of a job, the code of a failure, JSON in ASCII."""

import json
from typing import Final, Literal

from msgspec import Struct

from relay.events import Cancelled, Done, Failed, FailureKind

__all__ = [
    "ERROR_TYPE",
    "FAILURE_CODES",
    "ResultFile",
    "ascii_json",
    "failure_code",
    "fitting",
    "json_line",
    "result_files",
    "result_text",
    "result_words",
]

ERROR_TYPE: Final = "invalid_request_error"
"""The `type` of the error object of every job, which stands for status 400.

[measured] @ai-sdk/openai repeats a request, and so submits again, if its stream holds no text before an error that is
like one of a server. It derives a status from the words of `code` and `type`: 500 without a known word, but 400 here.
"""

FAILURE_CODES: Final[dict[FailureKind, str]] = {
    "policy": "violation",
    "upstream": "upstream_error",
    "auth": "upstream_unauthorized",
    "rate-limit": "upstream_throttled",
    "not-found": "task_not_found",
    "timeout": "timeout",
    "lost": "lost",
    "malformed": "malformed_answer",
    "internal": "internal_error",
}
"""None holds "rate_limit", which that client takes for 429, and repeats, whatever the type is."""

CUT: Final = "... (cut)"

LONGEST: Final = 13
"""More than a character has bytes in JSON: 12, as a pair of escaped surrogates, and its share of the quotes."""

_UNSAFE: Final = str.maketrans(
    {character: f"%{ord(character):02X}" for character in " \"'()<>\\^`{|}\t\n\r"},
)
"""What would end an address within a tag or a link."""


class ResultFile(Struct, frozen=True):
    """A file of a result: its address, and what it is as far as known."""

    url: str
    kind: Literal["video", "image", "audio", "file"]

    @property
    def shown(self) -> str:
        """The file in the form that chat clients show: a video tag, a Markdown image or a Markdown link."""
        safe = self.url.translate(_UNSAFE)
        match self.kind:
            case "video":
                return f"<video src='{safe}' controls></video>"
            case "image":
                return f"![image]({safe})"
            case _:
                return f"[{self.kind}]({safe})"


def failure_code(terminal: Failed | Cancelled) -> str:
    """The `code` of the error object of a job that ended like that."""
    return "cancelled" if isinstance(terminal, Cancelled) else FAILURE_CODES[terminal.kind]


def result_files(done: Done) -> list[ResultFile]:
    """The files of the result. Without a media type one counts as a video, since clients look for the tag."""
    kinds: dict[str, Literal["video", "image", "audio", "file"]] = {
        "": "video",
        "video": "video",
        "image": "image",
        "audio": "audio",
    }
    media_types = [*done.media_types, *[""] * len(done.urls)]
    return [
        ResultFile(url, kinds.get(media_type.partition("/")[0], "file"))
        for url, media_type in zip(done.urls, media_types, strict=False)
    ]


def result_words(done: Done) -> str:
    """The result beside the files: text as it is, anything else as JSON. Without any result, the text of the event."""
    if done.result is None:
        return "" if done.urls else done.text
    return done.result if isinstance(done.result, str) else json.dumps(done.result, ensure_ascii=False)


def result_text(done: Done) -> str:
    """The whole result, each file on a line of its own."""
    words = result_words(done)
    return "\n".join([*(file.shown for file in result_files(done)), *([words] if words else [])])


def json_line(text: str, percent: int | None) -> str:
    """*text* and a line feed as JSON. One percent sign is sent as it is: that of *percent*, at the beginning."""
    line = ascii_json(f"{text}\n")
    figure = f'"{percent}'
    return line.replace(f"{figure}\\u0025", f"{figure}%", 1) if line.startswith(f"{figure}\\u0025") else line


def ascii_json(value: object) -> str:
    """*value* as JSON in ASCII without a percent sign: clients search a line as sent for digits before one."""
    return json.dumps(value, separators=(",", ":")).replace("%", "\\u0025")


def fitting(text: str, room: int) -> str:
    """*text*, or as much of its beginning as fits into *room* bytes of `ascii_json` with a mark that it was cut."""
    if len(text) * LONGEST <= room or len(ascii_json(text)) <= room:
        return text
    room -= len(ascii_json(CUT))
    fits, over = 0, min(len(text), room) + 1
    while over - fits > 1:
        middle = (fits + over) // 2
        if len(ascii_json(text[:middle])) <= room:
            fits = middle
        else:
            over = middle
    return text[:fits] + CUT
