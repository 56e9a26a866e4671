"""Runs a command as a container would: in a network of its own, as a user without rights, and with a read-only root.

`python container.py STATE COMMAND...`, run by root under `unshare --net --mount`. Only the folder STATE can be written.
"""

import os
import subprocess
import sys
from pathlib import Path

ADDRESSES = ("192.0.2.10/24", "2001:db8::10/64")
"""[spec] RFC 5737 and RFC 3849: addresses of no machine."""

UID = 10_001

UNPRIVILEGED = (
    "setpriv",
    f"--reuid={UID}",
    f"--regid={UID}",
    "--clear-groups",
    "--no-new-privs",
    "--inh-caps=-all",
    "--bounding-set=-all",
)

REPOSITORY = Path(__file__).parents[2]


def run(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=True)


def bring_up_network() -> None:
    """A pair of interfaces, one end with addresses that are not those of loopback."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "outside")
    run("ip", "link", "set", "outside", "up")
    run("ip", "link", "set", "eth0", "up")
    for address in ADDRESSES:
        # A machine may have no IPv6.
        run(
            "ip",
            "addr",
            "add",
            address,
            "dev",
            "eth0",
            *(["nodad"] if ":" in address else []),
            check=":" not in address,
        )


def let_others_enter(paths: list[Path], hold: Path) -> None:
    """Show *paths* to every user. Below a folder that only root enters, such as root's home, an interpreter would run
    all the same, but without the libraries beside it.
    """
    closed = {next((one for one in reversed(path.parents) if not one.stat().st_mode & 0o001), None) for path in paths}
    for number, folder in enumerate(sorted(one for one in closed if one is not None)):
        within = [path for path in paths if path.is_relative_to(folder)]
        for place, path in enumerate(within):
            held = hold / f"{number}-{place}"
            held.mkdir(parents=True)
            run("mount", "--rbind", str(path), str(held))
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(folder))
        for place, path in enumerate(within):
            path.mkdir(parents=True)
            run("mount", "--rbind", str(hold / f"{number}-{place}"), str(path))


def make_read_only(state: Path) -> None:
    """Make every file system read-only but *state*; those of the kernel that refuse hold no files."""
    run("mount", "--bind", str(state), str(state))
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        place = line.split()[4].encode().decode("unicode_escape")
        if place != str(state):
            run("mount", "-o", "remount,ro,bind", place, check=False)


def main(state: Path, *command: str) -> None:
    run("mount", "--make-rprivate", "/")
    bring_up_network()
    let_others_enter([Path(sys.base_prefix), Path(sys.prefix), REPOSITORY], state.parent / "hold")
    make_read_only(state)
    os.chdir(state)  # which was the folder below the mount until now
    # A measurement of coverage would write its data beside the repository.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    os.execvpe(UNPRIVILEGED[0], [*UNPRIVILEGED, *command], environ)  # noqa: S606


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
