"""`relay.toml` and the environment, read into typed settings. Nothing is built here: see `relay.cli.build`."""

from relay.config.load import JOURNALS, check_host, load, passed_over

__all__ = ["JOURNALS", "check_host", "load", "passed_over"]
