"""A shutdown ends, whatever a sink does when it is left."""

from pathlib import Path

from tests.cli.running import relay

STUBBORN = """
import asyncio


class Stubborn:
    def __call__(self, record): ...

    async def __aenter__(self): ...

    async def __aexit__(self, *error):
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass


class Hangs(Stubborn):
    async def __aexit__(self, *error):
        await asyncio.Event().wait()


class Raises(Stubborn):
    async def __aexit__(self, *error):
        raise BaseException("not even an Exception")


class CannotStart(Stubborn):
    async def __aenter__(self):
        raise OSError("no route to host")
"""


def test_sinks_that_hang_refuse_or_raise_when_they_are_left_are_said_and_the_process_ends(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(STUBBORN)
    kinds = ("Stubborn", "Hangs", "Raises")
    (tmp_path / "relay.toml").write_text("".join(f'[[sinks]]\nkind = "own:{kind}"\n' for kind in kinds))
    with relay("serve", "--port", "0", folder=tmp_path) as serve:
        serve.says("no upstream is configured")
        serve.interrupt()
        assert serve.ends() == 0

    assert sorted(serve.said[2:]) == [
        "relay: sink Hangs did not close within 5 s; its pending work may be lost",
        "relay: sink Raises failed to close: BaseException: not even an Exception",
        "relay: sink Stubborn did not close within 5 s; its pending work may be lost",
        "relay: the relay ends, though this does not: sink Stubborn, work of sink Stubborn",
    ]


def test_a_sink_that_cannot_be_started_is_one_line_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(STUBBORN)
    (tmp_path / "relay.toml").write_text('[[sinks]]\nkind = "own:CannotStart"\n')
    with relay("serve", "--port", "0", folder=tmp_path) as serve:
        assert serve.ends() == 2

    assert serve.said == [
        "relay: sink CannotStart could not be started, so the relay does not start: OSError: no route to host"
    ]
