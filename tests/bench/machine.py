"""What a run was made on and of what, as far as figures depend on it: no names, no paths."""

import os
import platform
import re
import shutil
import sqlite3
import ssl
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tests.bench.fanout.nginx import nginx
from tests.bench.fanout.servers import OTHER_PYTHON
from tests.bench.fanout.tools import ROOT, compiler

__all__ = ["machine", "versions"]

PACKAGES = (
    "aiohttp",
    "aiohttp-sse",
    "blinker",
    "msgspec",
    "sse-starlette",
    "starlette",
    "structlog",
    "uvicorn",
    "uvloop",
)


def machine() -> dict[str, Any]:
    """The machine, and how busy it was just before."""
    return {
        "system": platform.system(),
        "kernel": os.uname().release,
        "architecture": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
        "open_files": _limit_of_files(),
        "load": round(os.getloadavg()[0], 2),
    }


def versions() -> dict[str, str]:
    """Of the relay, and of everything that may run in this benchmark."""
    found = {
        "relay": _revision() or _package("progress-relay"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        **{name: _package(name) for name in PACKAGES},
    }
    if OTHER_PYTHON:
        found["other python"] = _said([OTHER_PYTHON, "--version"], r"Python (\S+)")
    if (program := nginx()) is not None:
        found["nginx"] = _said([program, "-v"], r"nginx/(\S+)")
        found["nchan"] = _said(["dpkg-query", "--show", "libnginx-mod-nchan"], r"\s(\S+)")
    if (program := compiler()) is not None:
        found["cc"] = _said([program, "--version"], r"(\d+(?:\.\d+)+)")
    return {name: number for name, number in found.items() if number}


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _revision() -> str:
    """The commit that is checked out, and whether files differ from it."""
    if not (ROOT / ".git").exists():
        return ""
    commit = _said(["git", "rev-parse", "--short=12", "HEAD"], r"([0-9a-f]+)")
    changed = _said(["git", "status", "--porcelain", "--untracked-files=no"], r"(\S+)")
    return f"{commit} and changes" if changed else commit


def _said(command: Sequence[str], pattern: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    found = re.search(pattern, done.stdout + done.stderr)
    return found[1] if found is not None and done.returncode == 0 else ""


def _limit_of_files() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
