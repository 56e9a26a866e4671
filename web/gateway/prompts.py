"""The prompt of a chat request: the text and the images of its last user message."""

from http import HTTPStatus
from typing import Any, cast

from msgspec import Struct

from web.gateway.errors import GatewayError

__all__ = ["Message", "Prompt", "checked_image", "prompt_of"]


class Message(Struct, frozen=True):
    """One message of a conversation; keys that are not read here are passed over."""

    role: str
    content: str | list[Any] | None = None


class Prompt(Struct, frozen=True):
    """A prompt: its *text*, and the addresses of its *images*, or `data:` URLs."""

    text: str
    images: tuple[str, ...] = ()


def prompt_of(messages: list[Message], param: str = "messages") -> Prompt:
    """The prompt in *messages*, which are the value of the key *param* of the request.

    Raises GatewayError if there is none, or a part that is neither text nor image.
    """
    number = next((number for number, one in reversed(list(enumerate(messages))) if one.role == "user"), None)
    if number is None:
        raise _refused("the request has no message of the user; its last one is the prompt", param)
    content = messages[number].content
    place = f"{param}[{number}].content"
    parts: list[Any] = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    texts: list[str] = []
    images: list[str] = []
    for index, part in enumerate(parts):
        _add(part, f"{place}[{index}]", texts, images)
    if not (text := "\n".join(texts)).strip():
        raise _refused("the last message of the user has no text, which is the prompt", place)
    return Prompt(text, tuple(images))


def _add(part: Any, param: str, texts: list[str], images: list[str]) -> None:
    fields = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
    match fields:
        case {"type": "text" | "input_text", "text": str(text)}:
            texts.append(text)
        case {"type": "image_url", "image_url": {"url": str(url)}} | {
            "type": "image_url" | "input_image",
            "image_url": str(url),
        }:
            images.append(checked_image(url, param))
        case _:
            kind = fields.get("type")
            raise _refused(f"a part of a message is text or an image with a URL, and not {kind!r}", param)


def checked_image(url: str, param: str) -> str:
    """*url*, the address of an image. Raises GatewayError for any other text; *param* is where the request has it."""
    if not url.startswith(("https://", "http://", "data:image/")):
        raise _refused("the URL of an image begins with https://, http:// or data:image/", param)
    return url


def _refused(detail: str, param: str) -> GatewayError:
    return GatewayError(HTTPStatus.BAD_REQUEST, detail, code="invalid_prompt", param=param)
