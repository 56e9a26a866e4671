"""A measurement in a process of its own, so that nothing of an earlier one weighs on it."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextvars import ContextVar
from multiprocessing import get_context
from typing import Final, Literal, ParamSpec, TypeVar

__all__ = ["START", "in_child"]

P = ParamSpec("P")
T = TypeVar("T")

START: Final[ContextVar[Literal["spawn", "forkserver"]]] = ContextVar("START", default="spawn")
"""How a process is made: a fresh interpreter, or, where nothing is measured, a copy of one that only has imported."""


def in_child(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What *work*, a function of a module, returns in a process that has done nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context(START.get())) as pool:
        return pool.submit(work, *args, **kwargs).result()
