"""`relay.toml` and the environment, read into typed settings. Nothing is built here: see `relay.cli.build`.

Names are imported when they are first used: a command without a configuration needs no parser of one.
"""

from typing import TYPE_CHECKING

from relay._exports import lazy_exports

if TYPE_CHECKING:
    from relay.config._load import load as load
    from relay.config._load import load_access as load_access
    from relay.config._load import passed_over as passed_over
    from relay.config.journal import JOURNALS as JOURNALS
    from relay.config.server import check_host as check_host
    from relay.config.server import check_origins as check_origins
else:
    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "relay.config.journal": ["JOURNALS"],
            "relay.config._load": ["load", "load_access", "passed_over"],
            "relay.config.server": ["check_host", "check_origins"],
        },
    )
