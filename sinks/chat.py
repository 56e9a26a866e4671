"""Records encoded as `chat.completion.chunk` events, which clients of OpenAI-style endpoints read. No I/O.

The profile is one that nine unchanged clients read without loss: one data line of ASCII a block, of less than 64 KiB
(the line buffer of one client holds 128 KiB), no `event` field, an id behind the data, and only on the last block of a
record, and a constant head. A percent sign stands for the percentage of the job alone, and every other one is escaped,
because some clients search the line, as it was sent, for digits before a percent sign.
"""

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from relay.events import Accepted, Cancelled, Done, Failed, Level, Position, Progress, Record, Terminal
from sinks.answers import ERROR_TYPE, ascii_json, failure_code, json_line, result_files, result_words

__all__ = ["DONE", "ChatChunks", "Reasoning"]

Reasoning: TypeAlias = Literal["both", "reasoning_content", "content"]
"""The fields of a delta that hold the text of a record."""

RETRY: Final = 3_000

DONE: Final = b"data: [DONE]\n\n"

PART: Final = 4_000
"""Characters of a result, or of a message, in one chunk: at most 48,000 bytes if each one has to be escaped."""

DELTA_LIMIT: Final = 60_000
"""Bytes of a delta; the head of its chunk has less than 4,000."""

_FIELDS: Final[dict[Reasoning, tuple[str, ...]]] = {
    "both": ("reasoning_content", "reasoning"),
    "reasoning_content": ("reasoning_content",),
    "content": ("content",),
}


class ChatChunks(Struct, frozen=True, kw_only=True):
    """The chunks of one job. *created* is in whole seconds since 1970, *model* is the name that the client requested.

    *task* is the upstream's task, if it is known when the stream starts: a client that adds up deltas must receive it
    once. *usage*: whether the stream ends with a chunk of usage. *level*: the least level of its records; the first
    chunk has it, so that a recording can be compared with another one.
    """

    job: str
    created: int
    model: str
    reasoning: Reasoning = "both"
    task: str | None = None
    usage: bool = False
    level: Level = "debug"

    def opening(self, position: Position) -> bytes:
        """The first chunk, with the role, the ids of job and task, and the position that the stream starts at."""
        output = f',"output":[{{"index":0,"task_id":{ascii_json(self.task)}}}]' if self.task is not None else ""
        about = f'"job":"{self.job}","position":"{position}","level":"{self.level}"'
        return _block(self._chunk(f'{{"role":"assistant","content":""{output},{about}}}'), position, retry=True)

    def record(self, record: Record) -> bytes:
        """*record*; with a terminal record, the result or the error, and the end of the stream."""
        event = record.event
        percent, output = None, ""
        match event:
            case Done() | Failed() | Cancelled():
                return self.end(event, record.position)
            case Progress():
                percent = event.percent
            case Accepted(task=str(task)) if self.task is None:
                output = f',"output":[{{"index":0,"task_id":{ascii_json(task)}}}]'
            case _:
                pass
        return _block(self._step(event.text, percent, output), record.position)

    def line(self, text: str, position: Position, *, percent: int | None = None) -> bytes:
        """A line that no record stands for, such as the notice of missing records."""
        return _block(self._step(text, percent), position)

    def empty(self, position: Position) -> bytes:
        """A chunk without news, for a client that ends a stream without chunks."""
        return _block(self._chunk("{}"), position)

    def end(self, terminal: Terminal, position: Position) -> bytes:
        """How the job ended, and the end of the stream: the result and `finish_reason`, or an error object."""
        said = _block(self._step(terminal.text))
        if not isinstance(terminal, Done):
            code, message = failure_code(terminal), terminal.message or terminal.text
            return said + self.error(message, code=code, position=position)
        results = b"".join(_block(self._chunk(delta, progress=100)) for delta in _results(terminal))
        finish = self._chunk("{}", finish='"stop"')
        if not self.usage:
            return said + results + _block(finish, position) + DONE
        usage = '"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
        return said + results + _block(finish) + _block(f"{{{self._head},{usage}}}", position) + DONE

    def error(self, message: str, *, code: str, position: Position) -> bytes:
        """An error object, which is the whole block, and the end of the stream.

        The message repeats code and job, since one client passes nothing else on.
        """
        message = f"{message[:PART]} [{code}] (job {self.job})"
        about = {"message": message, "type": ERROR_TYPE, "param": None, "code": code}
        return _block(f'{{"error":{ascii_json(about)}}}', position) + DONE

    @property
    def _head(self) -> str:
        return (
            f'"id":"chatcmpl-{self.job}","object":"chat.completion.chunk","created":{self.created},'
            f'"model":{ascii_json(self.model)}'
        )

    def _chunk(self, delta: str, *, finish: str = "null", progress: int | None = None) -> str:
        choice = f'{{"index":0,"delta":{delta},"finish_reason":{finish},"native_finish_reason":{finish}}}'
        figure = f',"progress":{progress}' if progress is not None else ""
        return f'{{{self._head},"choices":[{choice}]{figure}}}'

    def _step(self, text: str, percent: int | None = None, more: str = "") -> str:
        line = json_line(text, percent)
        fields = ",".join(f'"{field}":{line}' for field in _FIELDS[self.reasoning])
        share = f',"progress":{percent / 100:g}' if percent is not None else ""
        return self._chunk(f"{{{fields}{share}{more}}}", progress=percent)


def _results(done: Done) -> Iterator[str]:
    """The deltas of a result; each file has an index, since a client that adds up deltas joins those without."""
    more = ',"progress":1'
    joint = ""
    for number, file in enumerate(result_files(done)):
        shown = joint + file.shown
        output = f'"output":[{{"index":{number},"url":{ascii_json(file.url)},"type":"{file.kind}"}}]'
        whole = f'{{"content":{ascii_json(shown)},{output}{more}}}'
        if len(whole) <= DELTA_LIMIT:
            yield whole
        else:
            # No chunk can hold such an address; its client finds it in the text, once it has all parts.
            yield from (f'{{"content":{ascii_json(part)}{more}}}' for part in _cut(shown))
        joint, more = "\n", ""
    if words := result_words(done):
        yield from (f'{{"content":{ascii_json(part)}{more}}}' for part in _cut(joint + words))


def _cut(text: str) -> list[str]:
    return [text[start : start + PART] for start in range(0, len(text), PART)]


def _block(data: str, position: Position | None = None, *, retry: bool = False) -> bytes:
    """One block. Its data comes first: a client that looks at the first line of a block finds it there."""
    id = f"\nid: {position}" if position is not None else ""
    pause = f"\nretry: {RETRY}" if retry else ""
    return f"data: {data}{id}{pause}\n\n".encode("ascii")
