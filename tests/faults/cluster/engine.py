"""A real Redis or Valkey on a TCP port of its own, which loses nothing by a kill, and older data by a restored copy."""

import shutil
from pathlib import Path

from tests.faults.process import free_port
from tests.journal.redis.servers import EngineServer, Kind

__all__ = ["Engine"]


class Engine(EngineServer):
    """Started again, it is on the same port with the same data: `appendfsync always` loses no acknowledged write."""

    def __init__(self, kind: Kind = "redis") -> None:
        super().__init__(kind, "--appendonly", "yes", "--appendfsync", "always", port=free_port())

    def save(self) -> None:
        """Copy its data as it is now. The last command in the copy may be cut off; the engine leaves that out."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._data, self._copy)

    def restore(self) -> None:
        """End it, and start it with the data that was saved: all that came later is lost."""
        self.kill()
        shutil.rmtree(self._data)
        shutil.copytree(self._copy, self._data)
        self.start()

    @property
    def _data(self) -> Path:
        return self.folder / "appendonlydir"

    @property
    def _copy(self) -> Path:
        return self.folder / "copy"
