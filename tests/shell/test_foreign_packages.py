"""The built wheel beside another distribution that has a package `web`, in an environment with nothing else of ours."""

import base64
import hashlib
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

APART = "install the relay into an environment of its own (uv tool install, or pipx)"


class Environment:
    """A virtual environment that sees the relay's dependencies, and whose own packages are installed from wheels."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder / "environment", with_pip=False)
        self.folder = folder
        self.python = folder / "environment" / "bin" / "python"
        (self.site,) = (folder / "environment" / "lib").glob("python*/site-packages")
        # A path file of this environment is followed; those in the folder that it names, the checkout's, are not.
        (self.site / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def install(self, wheel: Path) -> None:
        """Install *wheel* with pip, which is one of the dependencies, offline."""
        pip = [str(self.python), "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--quiet"]
        # The checkout's own installation, which pip sees as well, is left alone.
        pip += ["--ignore-installed", str(wheel)]
        subprocess.run(pip, check=True, env={"PIP_CONFIG_FILE": os.devnull})

    def run(self, *command: str, **variables: str) -> tuple[int, str, str]:
        """A command of this environment, in a folder without packages, and with no variable but these."""
        done = subprocess.run(
            [str(self.python.with_name(command[0])), *command[1:]],
            cwd=self.folder,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The relay, and nothing that has a name in common with it."""
    environment = Environment(tmp_path_factory.mktemp("alone"))
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def replaced(wheel: Path, web_py: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """First the relay, then `web.py`."""
    environment = Environment(tmp_path_factory.mktemp("replaced"))
    environment.install(wheel)
    environment.install(web_py)
    return environment


@pytest.fixture(scope="module")
def shared(wheel: Path, web_py: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """First `web.py`, then the relay."""
    environment = Environment(tmp_path_factory.mktemp("shared"))
    environment.install(web_py)
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def web_py(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of another distribution, `web.py`, that has a package `web`."""
    info = "web.py-0.62.dist-info"
    files = {
        "web/__init__.py": "framework = True\n",
        "web/template.py": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: web.py\nVersion: 0.62\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""])
    path = tmp_path_factory.mktemp("foreign") / "web.py-0.62-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def test_the_wheel_alone_has_the_version_of_its_name(alone: Environment, wheel: Path) -> None:
    _, version, _ = wheel.name.split("-", 2)

    assert alone.run("relay", "--version") == (0, f"relay {version}\n", "")
    assert alone.run("relay", "schema")[0] == 0


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["doctor"], ["schema"]], ids=" ".join)
def test_another_web_that_was_installed_later_is_one_sentence_that_names_its_distribution(
    command: list[str], replaced: Environment
) -> None:
    assert replaced.run("relay", *command) == (
        2,
        "",
        f"relay: the distribution web.py has replaced the relay's own package 'web'; {APART}\n",
    )


def test_another_web_that_was_installed_before_is_a_problem_to_the_doctor_alone(shared: Environment) -> None:
    (shared.folder / "relay.toml").write_text('[server]\nport = 0\nmax_streams = 10\n[journal]\nurl = "memory:"\n')

    assert shared.run("relay", "schema")[0] == 0
    status, out, err = shared.run("relay", "doctor")
    assert (status, err) == (1, "")
    assert (
        "the distribution web.py has a package 'web' too, so the next update of either may replace the files of the"
        f" other; {APART}\n"
    ) in out


def test_another_web_that_python_finds_first_is_one_sentence_that_names_its_folder_and_distribution(
    alone: Environment, web_py: Path, tmp_path: Path
) -> None:
    with ZipFile(web_py) as archive:
        archive.extractall(tmp_path)

    assert alone.run("relay", "schema", PYTHONPATH=str(tmp_path)) == (
        2,
        "",
        f"relay: the package 'web' would be imported from {tmp_path / 'web'}, which the distribution web.py installed"
        f" there, and not from the relay; {APART}\n",
    )


def test_a_program_that_uses_another_web_runs_a_relay_with_its_own_sinks(replaced: Environment) -> None:
    (replaced.folder / "program.py").write_text(
        "import asyncio, web\n"
        "from relay import Relay\n"
        "from relay.upstreams import Sora\n"
        "async def main():\n"
        "    async with Relay([Sora('http://127.0.0.1:9', 'made-up')], sinks=[print]) as relay:\n"
        "        return relay.running\n"
        "print(asyncio.run(main()), web.framework)\n"
    )

    assert replaced.run("python", "program.py") == (0, "True True\n", "")
