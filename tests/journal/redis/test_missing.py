"""Without the client of Redis, the journal that needs it says so, and nothing else does."""

import subprocess
import sys

PROGRAM = """
import sys

sys.modules["redis"] = None
import relay.journal, relay.cli.serve
from relay.errors import ConfigError

try:
    import relay.journal.redis
except ConfigError as error:
    print(error)
"""


def test_a_client_that_is_not_installed_is_named_with_its_extra() -> None:
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert run.stdout == 'the client of Redis is not installed; pip install "progress-relay[redis]"\n'
