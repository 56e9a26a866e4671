"""The files of docs/examples/cluster: each is what its own program or schema takes, and the relay reads its part."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from relay.config import load
from relay.config.settings import Settings

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "docs/examples/cluster"
SECRETS: Final = Path("/run/secrets")
MANIFESTS: Final[list[dict[str, Any]]] = list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text("utf-8")))
CONFIGURATIONS: Final = {
    "compose": (FOLDER / "relay.toml").read_text("utf-8"),
    "kubernetes": str(MANIFESTS[0]["data"]["relay.toml"]),
}


def titled(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def of_kind(kind: str) -> dict[str, Any]:
    [found] = [manifest for manifest in MANIFESTS if manifest["kind"] == kind]
    return found


@pytest.mark.parametrize("manifest", MANIFESTS, ids=titled)
def test_a_manifest_is_what_the_schemas_of_kubernetes_take(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_a_manifest_with_a_key_that_kubernetes_does_not_know_would_be_found() -> None:
    deployment = of_kind("Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 3}}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_the_compose_file_is_what_compose_takes() -> None:
    subprocess.run(["docker-compose", "--file", "compose.yaml", "config", "--quiet"], cwd=FOLDER, check=True)


@pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed")
def test_the_caddyfile_is_what_caddy_takes(tmp_path: Path) -> None:
    subprocess.run(
        ["caddy", "validate", "--adapter", "caddyfile", "--config", str(FOLDER / "Caddyfile")],
        check=True,
        capture_output=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_relay_reads_the_configuration(name: str, tmp_path: Path) -> None:
    settings = read(CONFIGURATIONS[name], tmp_path)

    assert settings.journal.shared
    assert settings.server.host == "0.0.0.0"
    assert settings.access is not None
    assert settings.access.signing_key is not None
    assert [upstream.name for upstream in settings.upstreams] == ["sora"]


def test_both_configurations_name_secrets_that_their_manifest_provides() -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
    page = (ROOT / "docs/how-to/run-several-nodes.md").read_text("utf-8")

    assert secrets_of(CONFIGURATIONS["compose"], "/run/secrets/") == set(compose["services"]["relay"]["secrets"])
    assert set(compose["services"]["relay"]["secrets"]) < set(compose["secrets"])
    for secret in secrets_of(CONFIGURATIONS["kubernetes"], "/run/secrets/relay/"):
        assert f"--from-literal={secret}=" in page


def test_the_nodes_end_within_the_time_that_they_are_given() -> None:
    pod = of_kind("Deployment")["spec"]["template"]["spec"]
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))

    assert pod["terminationGracePeriodSeconds"] >= 30
    assert compose["services"]["relay"]["stop_grace_period"] == "20s"


@pytest.mark.redis
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_a_server_of_redis_takes_the_options(name: str, tmp_path: Path) -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text("utf-8"))
    pod = of_kind("StatefulSet")["spec"]["template"]["spec"]
    options: list[str] = {
        "compose": compose["services"]["redis"]["command"][1:],
        "kubernetes": pod["containers"][0]["args"],
    }[name]
    config = tmp_path / "redis.conf"
    config.write_text("requirepass c4n4ry\nport 0\nunixsocket ./s\n", "utf-8")

    with subprocess.Popen(
        ["redis-server", str(config), *options[1:], "--dir", str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        line = next((line for line in server.stdout if "Ready to accept" in line or "now ready" in line), "")
        server.terminate()

    assert line != ""
    assert (tmp_path / "appendonlydir").is_dir()


def read(text: str, folder: Path) -> Settings:
    """The settings of a configuration whose secrets are in *folder*."""
    for secret in secrets_of(text, "/run/secrets/"):
        file = folder / secret
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("redis://:c4n4ry@redis:6379/0" if "journal" in secret else "c4n4ry-" * 8, "utf-8")
        file.chmod(0o600)
    config = folder / "relay.toml"
    config.write_text(text.replace(str(SECRETS), str(folder)), "utf-8")
    return load(config, {})


def secrets_of(text: str, folder: str) -> set[str]:
    return {part.split('"')[0] for part in text.split(f"file:{folder}")[1:]}
