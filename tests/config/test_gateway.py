"""What [gateway] of relay.toml and its environment variables may say."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.cli.options import load_settings as load
from relay.config.settings import GatewayModel, GatewaySettings
from relay.errors import ConfigError

SORA = '[[upstreams]]\nkind = "sora"\nbase_url = "http://gateway:8000"\ntoken = "env:T"\n'
WAIT = 'seconds, or text like "90s" or "4m", from 1 s to 290 s: clients repeat a request that has no answer after 300 s'

Load = Callable[..., GatewaySettings]


@pytest.fixture
def written(tmp_path: Path) -> Load:
    """Write relay.toml with an upstream called `sora`, load it, return its [gateway]."""

    def write(content: str, environ: dict[str, str] | None = None) -> GatewaySettings:
        path = tmp_path / "relay.toml"
        path.write_text(f"{SORA}{content}")
        return load(path, {"T": "token", **(environ or {})}).gateway

    return write


def refusal(written: Load, content: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        written(content, environ)
    return re.sub("^/.*?/(?=relay.toml: )", "", str(caught.value))


def test_without_a_table_each_key_has_its_default(written: Load) -> None:
    assert written("") == GatewaySettings()
    assert (GatewaySettings().wait, GatewaySettings().level, GatewaySettings().reasoning) == (240.0, "info", "both")


def test_a_whole_table_becomes_typed_settings(written: Load) -> None:
    assert written(
        """
        [gateway]
        wait = "90s"
        level = "debug"
        reasoning = "content"
        cancel_on_disconnect = true

        [gateway.models."sora-video"]
        upstream = "sora"
        input = { orientation = "landscape", n_frames = 300 }

        [gateway.models."vendor/fast:v1@2"]
        upstream = "sora"
        prompt = "input.prompt"
        image = "input.image_url"
        reasoning = "reasoning_content"
        """
    ) == GatewaySettings(
        wait=90.0,
        level="debug",
        reasoning="content",
        cancel_on_disconnect=True,
        models={
            "sora-video": GatewayModel(upstream="sora", input={"orientation": "landscape", "n_frames": 300}),
            "vendor/fast:v1@2": GatewayModel(
                upstream="sora", prompt="input.prompt", image="input.image_url", reasoning="reasoning_content"
            ),
        },
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[gateway]\nmodel = 1", "relay.toml: [gateway] has an unknown key 'model'; did you mean 'models'?"),
        (
            '[gateway.models."sora-video"]\nupstream = "sora"\npromt = "text"',
            "relay.toml: [gateway.models.\"sora-video\"] has an unknown key 'promt'; did you mean 'prompt'?",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(written: Load, content: str, line: str) -> None:
    assert refusal(written, content) == line


@pytest.mark.parametrize(("value", "shown"), [("291", ", not 291"), ('"5m"', ", not 300.0"), ("0", ", not 0")])
def test_a_wait_that_clients_do_not_wait_for_is_refused_with_the_reason(written: Load, value: str, shown: str) -> None:
    assert refusal(written, f"[gateway]\nwait = {value}") == f"relay.toml: [gateway] wait must be {WAIT}{shown}"


def test_the_longest_wait_is_290_seconds(written: Load) -> None:
    assert written("[gateway]\nwait = 290").wait == 290.0


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[[gateway]]", "relay.toml: [gateway] must be a table, not a list"),
        (
            "[gateway]\nlevel = 'loud'",
            "relay.toml: [gateway] level must be one of debug, info, warning, error",
        ),
        (
            "[gateway]\nreasoning = 'thinking'",
            'relay.toml: [gateway] reasoning must be "both", "reasoning_content" or "content"',
        ),
        (
            "[gateway]\nmodels = ['sora']",
            'relay.toml: [gateway] models must be a table for each model: write [gateway.models."sora-video"] in the'
            " file",
        ),
        ("[gateway.models]\nfast = 'sora'", 'relay.toml: [gateway.models."fast"] must be a table'),
        (
            "[gateway.models.fast]\n",
            "relay.toml: [gateway.models.\"fast\"] needs the key 'upstream': a name of letters, digits, '.', '_' and"
            " '-'",
        ),
        (
            "[gateway.models.fast]\nupstream = 'sora'\ninput = 'portrait'",
            'relay.toml: [gateway.models."fast"] input must be a table',
        ),
        (
            "[gateway.models.fast]\nupstream = 'sora'\nprompt = 'a..b'",
            'relay.toml: [gateway.models."fast"] prompt must be a key, or keys with dots such as "input.prompt"',
        ),
        (
            "[gateway.models.fast]\nupstream = 'soar'",
            "relay.toml: [gateway.models.\"fast\"] has an unknown upstream 'soar'; did you mean 'sora'? known are sora",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(written: Load, content: str, line: str) -> None:
    assert refusal(written, content) == line


@pytest.mark.parametrize("name", ["", " ", "a b", ".a", "ä", "a\\n", "m" * 129])
def test_a_model_has_a_name_that_clients_can_send(written: Load, name: str) -> None:
    line = refusal(written, f'[gateway.models."{name}"]\nupstream = "sora"')
    assert line.endswith(
        " must be a name of up to 128 letters, digits, '.', '_', ':', '/', '@' and '-' that begins with a letter or a"
        " digit"
    )
    assert "\n" not in line


def test_a_model_without_any_upstream_is_refused_with_what_to_add(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text("[gateway.models.fast]\nupstream = 'sora'")
    with pytest.raises(ConfigError, match=r"has an unknown upstream 'sora'; add \[\[upstreams\]\]$"):
        load(path, {})


def test_the_environment_wins_over_the_file(written: Load) -> None:
    environ = {
        "RELAY_GATEWAY_WAIT": "2m",
        "RELAY_GATEWAY_LEVEL": "warning",
        "RELAY_GATEWAY_REASONING": "content",
        "RELAY_GATEWAY_CANCEL_ON_DISCONNECT": "true",
    }
    table = '[gateway]\nwait = 5\nlevel = "debug"\n[gateway.models.fast]\nupstream = "sora"'
    assert written(table, environ) == GatewaySettings(
        wait=120.0,
        level="warning",
        reasoning="content",
        cancel_on_disconnect=True,
        models={"fast": GatewayModel(upstream="sora")},
    )


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"RELAY_GATEWAY_WAITS": "1"},
            "the environment variable RELAY_GATEWAY_WAITS is not known; did you mean 'RELAY_GATEWAY_WAIT'?",
        ),
        ({"RELAY_GATEWAY_WAIT": "300"}, f"RELAY_GATEWAY_WAIT must be {WAIT}, not 300.0"),
        (
            {"RELAY_GATEWAY_MODELS": "sora"},
            'RELAY_GATEWAY_MODELS must be a table for each model: write [gateway.models."sora-video"] in the file',
        ),
    ],
)
def test_the_environment_is_checked_like_the_file(written: Load, environ: dict[str, str], line: str) -> None:
    assert refusal(written, "", environ) == line
