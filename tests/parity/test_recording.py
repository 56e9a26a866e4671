"""The wire stays as it is: what a relay sends for a scripted story is what it sent when that was recorded."""

from itertools import zip_longest
from pathlib import Path

from tests.parity.recording import record

RECORDING = Path(__file__).with_name("recording.sse")


async def test_streams_states_notices_and_headers_are_byte_for_byte_those_of_the_recording() -> None:
    sent, recorded = (await record()).split(b"\n"), RECORDING.read_bytes().split(b"\n")

    differences = [(now, before) for now, before in zip_longest(sent, recorded) if now != before]
    assert not differences[:3]
