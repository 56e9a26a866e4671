"""The models that clients may name: each is an upstream, with the input that its submissions begin with."""

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final, cast

from msgspec import Struct, to_builtins

from relay import ConfigError
from relay.config.settings import GatewayModel, GatewaySettings, Reasoning
from relay.hints import nearest
from relay.text import bounded
from relay.upstreams import Submits, Upstream, prompt_keys
from web.gateway.errors import GatewayError
from web.gateway.prompts import Prompt

__all__ = ["Model", "ModelTable"]

_NAME_LIMIT: Final = 64
_NAMES_LIMIT: Final = 300


class Model(Struct, frozen=True, kw_only=True):
    """One model: its *name* for clients, its *upstream*, and how a prompt becomes an input of that upstream."""

    name: str
    upstream: str
    input: Mapping[str, Any]
    prompt_at: str
    image_at: str | None
    reasoning: Reasoning

    def input_for(
        self, prompt: Prompt, more: Mapping[str, Any] | None = None, *, images_at: str = "messages"
    ) -> dict[str, Any]:
        """The input of a submission; the keys of *more* replace those that are configured.

        Raises GatewayError if *prompt* has more than the upstream accepts; *images_at* is where the request has images.
        """
        input: dict[str, Any] = to_builtins({**self.input, **(more or {})})
        _put(input, self.prompt_at, prompt.text)
        if len(prompt.images) > 1 or (prompt.images and self.image_at is None):
            accepted = "one image" if self.image_at is not None else "no image"
            raise GatewayError(
                HTTPStatus.BAD_REQUEST,
                f"the model {self.name!r} accepts {accepted} beside the text",
                code="unsupported_image",
                param=images_at,
            )
        if prompt.images and self.image_at is not None:
            _put(input, self.image_at, prompt.images[0])
        return input


class ModelTable:
    """The models of [gateway]; if it names none, each upstream that accepts submissions under its own name.

    Raises ConfigError for a model whose upstream does not exist or accepts no submissions.
    """

    def __init__(self, upstreams: Mapping[str, Upstream], settings: GatewaySettings) -> None:
        accepting = {name: upstream for name, upstream in upstreams.items() if isinstance(upstream, Submits)}
        configured = settings.models or {name: GatewayModel(upstream=name) for name in accepting}
        for name, model in configured.items():
            if model.upstream not in accepting:
                lack = "accepts no submissions" if model.upstream in upstreams else "does not exist"
                raise ConfigError(f"[gateway] model {name!r}: the upstream {model.upstream!r} {lack}; name another one")
        self._models = {
            name: _model(name, model, accepting[model.upstream], settings) for name, model in configured.items()
        }

    def __iter__(self) -> Iterator[Model]:
        return iter(self._models.values())

    def only(self) -> Model:
        """The one model that there is. Raises GatewayError (400), which names the models, if there are several."""
        if len(self._models) != 1:
            names = ", ".join(map(repr, self._models)) or "none"
            raise GatewayError(
                HTTPStatus.BAD_REQUEST,
                bounded(f"name a `model`; there are: {names}", _NAMES_LIMIT),
                code="model_required",
                param="model",
            )
        return next(iter(self))

    def name_for(self, upstream: str) -> str:
        """The name of the first model of *upstream*; its own name if no model is."""
        return next((model.name for model in self if model.upstream == upstream), upstream)

    def get(self, name: str) -> Model:
        """The model with this name. Raises GatewayError (404), which names those that exist."""
        try:
            return self._models[name]
        except KeyError:
            shown = bounded(name, _NAME_LIMIT)
            raise GatewayError(
                HTTPStatus.NOT_FOUND,
                f"no model is called {shown!r}; {nearest(shown, self._models) if self._models else 'there is none'}",
                code="model_not_found",
                param="model",
            ) from None


def _model(name: str, model: GatewayModel, upstream: Upstream, settings: GatewaySettings) -> Model:
    prompt_at, image_at = prompt_keys(upstream)
    return Model(
        name=name,
        upstream=model.upstream,
        input=model.input,
        prompt_at=model.prompt or prompt_at,
        image_at=model.image or image_at,
        reasoning=model.reasoning or settings.reasoning,
    )


def _put(input: dict[str, Any], path: str, value: object) -> None:
    """Set *value* at *path*, whose keys are joined by dots; tables that are missing are made."""
    *tables, last = path.split(".")
    for key in tables:
        inner = input.get(key)
        if not isinstance(inner, dict):
            inner = input[key] = {}
        input = cast("dict[str, Any]", inner)
    input[last] = value
