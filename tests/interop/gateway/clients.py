"""The clients of a chat stream, and what each of them reads."""

from typing import Any, Literal

import pytest
from msgspec import Struct

from relay.config.settings import GatewaySettings
from tests.interop.gateway.house import House
from tests.interop.gateway.program import marks_of

__all__ = ["AI", "CLIENTS", "CONTENT", "NODE", "PYTHON", "WAITING", "Chat", "Client", "params", "result_of"]

CONTENT = GatewaySettings(reasoning="content")


class Client(Struct, frozen=True):
    """One way to read a chat stream. *reads* says where it finds the lines: in `content` if it reads no reasoning."""

    id: str
    program: str
    do: str = "chat"
    options: dict[str, Any] = {}
    reads: Literal["reasoning", "content"] = "reasoning"

    @property
    def settings(self) -> GatewaySettings:
        """The configuration with which it reads every line."""
        return CONTENT if self.reads == "content" else GatewaySettings()

    async def chat(self, house: House, prompt: str, **options: Any) -> "Chat":
        """What the client delivers of a stream about *prompt*."""
        result = await house.perform(self.program, self.do, prompt, **self.options, **options)
        if self.program == "llm_command":
            failed = result["status"] != 0
            error = {"class": "Error", "message": result["stderr"]} if failed else None
            return Chat(result["stdout"].removesuffix("\n"), None if failed else "stop", error)
        text = "".join([*result.get("steps", []), *result.get("texts", []), result.get("content") or ""])
        return Chat(text, result["finish"], result["error"])


class Chat(Struct, frozen=True):
    """All text in its order, lines and result; how the stream ended for the client; and the error it reported."""

    text: str
    finish: str | None
    error: dict[str, Any] | None


def _ai(provider: str, reads: Literal["reasoning", "content"] = "reasoning") -> Client:
    return Client(f"ai-{provider}", "ai_sdk.mjs", options={"provider": provider}, reads=reads)


PYTHON = Client("openai-python", "openai_sdk")
NODE = Client("openai-node", "openai_sdk.mjs")
AI = _ai("openai-compatible")

CLIENTS = (
    PYTHON,
    Client("openai-python-helper", "openai_sdk", "helper"),
    NODE,
    Client("openai-node-helper", "openai_sdk.mjs", "helper"),
    AI,
    _ai("openrouter"),
    _ai("openai", reads="content"),
    Client("langchain-python", "langchain_sdk", reads="content"),
    Client("langchain-python-async", "langchain_sdk", "chat_async", reads="content"),
    Client("langchain-js", "langchain_sdk.mjs"),
    Client("litellm", "litellm_sdk"),
    Client("llm", "llm_command", reads="content"),
)

WAITING = (
    Client("openai-python", "openai_sdk", "whole"),
    Client("openai-node", "openai_sdk.mjs", "whole"),
    Client("ai", "ai_sdk.mjs", "whole", options={"provider": "openai-compatible"}),
    Client("langchain-python", "langchain_sdk", "whole"),
    Client("langchain-js", "langchain_sdk.mjs", "whole"),
    Client("litellm", "litellm_sdk", "whole"),
)
"""Those that wait for one whole completion."""


def params(*clients: Client) -> Any:
    """A parameter *client* of a test, one of *clients* at a time."""
    marked = [pytest.param(client, id=client.id, marks=marks_of(client.program)) for client in clients]
    return pytest.mark.parametrize("client", marked)


def result_of(house: House) -> str:
    """The result in the form that chat clients show."""
    return f"<video src='{house.job.state.terminal.urls[0]}' controls></video>"  # type: ignore[union-attr]
