"""`relay.toml` and the environment, read into typed settings. Nothing is built here: see `relay.cli.build`."""

from relay.config.journal import JOURNALS
from relay.config.load import load, load_access, passed_over
from relay.config.server import check_host, check_origins

__all__ = ["JOURNALS", "check_host", "check_origins", "load", "load_access", "passed_over"]
