"""The part `tokens`: the cost of a JWT that is verified for the first time, of the same again, and of an expired one.

Each algorithm is a process of its own, in turns.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from relay.testing import ManualClock
from tests.bench.child import in_child
from tests.bench.part import Findings, Plan, least, most, ratio
from tests.web.access.issuer import NOW, mint, settings
from web.access.jwt import JwtVerifier

__all__ = ["measure"]

ALGORITHMS: Final = ("HS256", "RS256", "ES256", "EdDSA")
GOAL: Final = 0.1
"""A token that was verified costs at most so much of its verification, with RS256."""


def measure(plan: Plan) -> Findings:
    """Verify tokens of as many users, then the same again, then as many that have expired."""
    tokens = 50 if plan.quick else 2_000
    runs: dict[str, list[dict[str, float]]] = {algorithm: [] for algorithm in ALGORITHMS}
    for number in range(plan.rounds):
        for algorithm in ALGORITHMS if number % 2 == 0 else ALGORITHMS[::-1]:
            runs[algorithm].append(in_child(_run, algorithm, tokens))
            plan.say(f"tokens: {algorithm}, {number + 1}: {runs[algorithm][-1]}")
    figures = [
        least(f"a first token, {algorithm}", "us", [run["first"] for run in found]) for algorithm, found in runs.items()
    ]
    first, again, expired = ([run[name] for run in runs["RS256"]] for name in ("first", "again", "expired"))
    figures.append(least("a token that was verified before", "us", again))
    figures.append(ratio("a token, verified before / for the first time, RS256", again, first, goal=GOAL))
    figures.append(least("a token that has expired", "us", expired, note="refused before its signature is verified"))
    wrong = [run["wrong"] for found in runs.values() for run in found]
    figures.append(most("tokens with the wrong result", "", wrong, goal=0))
    return Findings(figures=figures, rows=[{"algorithm": name, **run} for name, found in runs.items() for run in found])


def _run(algorithm: str, tokens: int) -> dict[str, float]:
    return asyncio.run(_verified(algorithm, tokens))


async def _verified(algorithm: str, tokens: int) -> dict[str, float]:
    verifier = JwtVerifier(settings(algorithm), clock=ManualClock())
    users = [f"user-{number}" for number in range(tokens)]
    valid = [mint(algorithm, sub=user, scope="jobs:read jobs:submit", iat=NOW, jti=user) for user in users]
    late = [mint(algorithm, sub=user, scope="jobs:read jobs:submit", iat=1, exp=2, jti=user) for user in users]
    await verifier.verify(mint(algorithm, sub="somebody"))  # which loads the library
    found: dict[str, float] = {"wrong": 0}
    for name, sent in (("first", valid), ("again", valid), ("expired", late)):
        found[name], accepted = await _timed(verifier, sent)
        found["wrong"] += abs(accepted - (0 if name == "expired" else tokens))
    return found


async def _timed(verifier: JwtVerifier, tokens: Sequence[str]) -> tuple[float, int]:
    accepted, started = 0, time.process_time()
    for token in tokens:
        accepted += await verifier.verify(token) is not None
    return (time.process_time() - started) / len(tokens) * 1e6, accepted
