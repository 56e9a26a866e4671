"""How each of these programs is driven: a JSON request a line, and a JSON document of the result a line.

A program is started once for many requests, since to import some clients takes seconds.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["described", "serve"]

Result = dict[str, Any]
Operation = Callable[..., Result]


def serve(**operations: Operation) -> None:
    """Perform the requests on standard input: `{"do": "chat", ...}` calls the operation `chat` with all other keys.

    Whatever a client prints goes to standard error.
    """
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        results.write(json.dumps(operations[request.pop("do")](**request)) + "\n")
        results.flush()


def described(error: BaseException) -> Result:
    """What a user of the client can read from *error*."""
    return {
        "class": type(error).__name__,
        "message": str(error),
        **{name: getattr(error, name, None) for name in ("type", "code", "status_code")},
    }
