"""A package hands on the same names to programs, to `dir` and to type checkers."""

import ast
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "relay",
    "relay.cluster",
    "relay.config",
    "relay.durable",
    "relay.testing",
    "relay.upstreams",
    "sinks",
    "web",
)


def typed(package: str) -> set[str]:
    """The names that *package* imports for type checkers, those that it imports with a star included."""
    path = ROOT / package.replace(".", "/") / "__init__.py"
    path = path if path.exists() else ROOT / f"{package.replace('.', '/')}.py"
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for imported in node.body:
                assert isinstance(imported, ast.ImportFrom)
                for name in imported.names:
                    if name.name == "*":
                        names |= typed(imported.module or "")
                    elif name.asname == name.name:
                        names.add(name.name)
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_lists_the_names_that_type_checkers_know(package: str) -> None:
    module = import_module(package)

    assert sorted(module.__all__) == sorted(typed(package)) == dir(module)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_package_can_be_had(package: str) -> None:
    module = import_module(package)

    assert [name for name in module.__all__ if getattr(module, name) is None] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_of_a_package_hides_a_name_that_is_imported_later(package: str) -> None:
    """Importing `relay.config.load` would make that module the `load` of `relay.config`."""
    assert [name for name in import_module(package).__all__ if find_spec(f"{package}.{name}")] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_a_package_does_not_have_is_no_attribute(package: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nothing'"):
        import_module(package).Nothing  # noqa: B018


def test_a_package_that_is_only_imported_loads_none_of_its_modules() -> None:
    program = f"import sys, {', '.join(PACKAGES)}; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    ours = {name for name in loaded if name.split(".")[0] in ("relay", "sinks", "web")}
    assert ours == {*PACKAGES, "relay._exports", "relay.upstreams.registry"}
    assert not {"aiohttp", "msgspec", "structlog"} & set(loaded)
