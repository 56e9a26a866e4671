"""The wire of a chat: the notices of a stream, in the form of the dialect."""

from relay import Done, Job, Position
from relay.jobs import JobState
from sinks.chat import ChatChunks
from web.gateway.wire import ChatWire

POSITION = Position("e1", 7)


def test_a_snapshot_from_before_the_end_does_not_tell_the_end_which_its_record_will() -> None:
    job = Job("job_7", JobState(text="50% (running)", percent=50, seq=4))
    wire = ChatWire(job, ChatChunks(job=job.id, created=0, model="m"))
    before = {"jobs": [{"seq": 4, "text": "50% (running)", "percent": 50, "terminal": None}]}
    after = {"jobs": [{"seq": 5, "text": "done", "percent": 100, "terminal": "done"}]}

    job.state = JobState(text="done", percent=100, seq=5, terminal=Done())

    assert b'"50% (running)\\n"' in wire.notice("snapshot", before, POSITION)
    assert b"[DONE]" not in wire.notice("snapshot", before, POSITION)
    assert wire.notice("snapshot", after, POSITION).endswith(b"data: [DONE]\n\n")
