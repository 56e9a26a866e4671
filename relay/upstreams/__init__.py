"""One file a dialect. An adapter translates between its API and `relay.jobs.observations`, and does nothing else."""

from typing import TYPE_CHECKING

from relay._exports import lazy_exports
from relay.upstreams.registry import adapters

if TYPE_CHECKING:
    from relay.upstreams.base import AcceptsWebhook as AcceptsWebhook
    from relay.upstreams.base import Cancels as Cancels
    from relay.upstreams.base import ChecksInput as ChecksInput
    from relay.upstreams.base import FetchesResults as FetchesResults
    from relay.upstreams.base import FindsSubmitted as FindsSubmitted
    from relay.upstreams.base import KeepsTasks as KeepsTasks
    from relay.upstreams.base import Pushes as Pushes
    from relay.upstreams.base import Submits as Submits
    from relay.upstreams.base import Upstream as Upstream
    from relay.upstreams.base import prompt_keys as prompt_keys
    from relay.upstreams.declared.declaration import CancelRequest as CancelRequest
    from relay.upstreams.declared.declaration import PollRequest as PollRequest
    from relay.upstreams.declared.declaration import ResultRequest as ResultRequest
    from relay.upstreams.declared.declaration import SubmitRequest as SubmitRequest
    from relay.upstreams.per_task import PerTaskUpstream as PerTaskUpstream
    from relay.upstreams.registry import *  # noqa: F403 - the adapters, each under its own name
else:
    # Adapters are imported when they are first used: they bring an HTTP client, which most imports do not need.
    __all__, __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            **adapters(),
            "relay.upstreams.base": [
                "AcceptsWebhook",
                "Cancels",
                "ChecksInput",
                "FetchesResults",
                "FindsSubmitted",
                "KeepsTasks",
                "Pushes",
                "Submits",
                "Upstream",
                "prompt_keys",
            ],
            "relay.upstreams.declared.declaration": ["CancelRequest", "PollRequest", "ResultRequest", "SubmitRequest"],
            "relay.upstreams.per_task": ["PerTaskUpstream"],
        },
    )
