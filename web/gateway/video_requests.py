"""The request for a video, as JSON or as a form: the same fields, and every value of a form is text."""

from base64 import b64encode
from http import HTTPStatus
from typing import Any, Final, cast

from aiohttp.web import Request
from msgspec import Struct

from web.bodies import read_json
from web.gateway.errors import GatewayError
from web.gateway.forms import FORM, Form, read_form
from web.gateway.prompts import Prompt, checked_image

__all__ = ["REFERENCE", "VideoRequest", "read_video_request"]

REFERENCE: Final = "input_reference"

_IMAGE_URL: Final = f"{REFERENCE}[image_url]"
"""How SDKs write the key of a nested object in a form."""

_SIGNATURES: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}


class VideoRequest(Struct, frozen=True, kw_only=True):
    """What a client wants: *more* goes into the input of the upstream as it is."""

    model: str | None
    prompt: Prompt
    more: dict[str, Any]

    @property
    def seconds(self) -> str | None:
        """The length of the video as text, if the request names it."""
        return self._text("seconds", "duration")

    @property
    def size(self) -> str | None:
        """Width and height, such as `1280x720`, if the request names them."""
        width, height = self._text("width"), self._text("height")
        return self._text("size") or (f"{width}x{height}" if width and height else None)

    def _text(self, *names: str) -> str | None:
        values = (self.more.get(name) for name in names)
        found = next((value for value in values if isinstance(value, str | int | float)), None)
        return None if found is None or isinstance(found, bool) else str(found)


async def read_video_request(request: Request, image: str = REFERENCE) -> VideoRequest:
    """The body of *request*; *image* is the field with the image. Raises RequestError, which names the wrong field."""
    match request.content_type:
        case "application/json":
            fields, images = _of_json(await read_json(request, dict[str, Any]), image)
        case content_type if content_type == FORM:
            fields, images = _of_form(await read_form(request))
        case _:
            raise GatewayError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"send the body as Content-Type: application/json or {FORM}",
                code="unsupported_media_type",
            )
    model, prompt = fields.pop("model", None), fields.pop("prompt", None)
    if model is not None and not isinstance(model, str):
        raise _refused("a model is named by text", "model")
    if not isinstance(prompt, str) or not prompt.strip():
        raise _refused("the request needs a `prompt`, a text that is not empty", "prompt")
    if fields.pop("n", None) not in (None, 1, "1"):
        raise _refused("a request makes one video; leave out `n`", "n")
    return VideoRequest(model=model or None, prompt=Prompt(prompt, images), more=fields)


def _of_json(body: dict[str, Any], image: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    reference = body.pop(image, None)
    if isinstance(reference, dict):
        reference = cast("dict[str, Any]", reference).get("image_url")
        if reference is None:
            raise _refused("an image is given by an `image_url`", image)
    if reference is None or reference == "":
        return body, ()
    if not isinstance(reference, str):
        raise _refused("an image is given by a URL", image)
    return body, (checked_image(reference, image),)


def _of_form(form: Form) -> tuple[dict[str, Any], tuple[str, ...]]:
    fields, files = dict(form.fields), dict(form.files)
    images: list[str] = []
    if (url := fields.pop(_IMAGE_URL, None)) is not None:
        images.append(checked_image(url, REFERENCE))
    if (content := files.pop(REFERENCE, None)) is not None:
        images.append(f"data:{_media_type(content)};base64,{b64encode(content).decode('ascii')}")
    if files:
        raise _refused(f"the one file of a form is its {REFERENCE}", next(iter(files)))
    if nested := next((name for name in fields if "[" in name), None):
        raise _refused("send a request with nested fields as JSON", nested)
    return fields, tuple(images)


def _media_type(content: bytes) -> str:
    """The type of an image, by its first bytes: the type that a client names is often that of any file."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    for signature, media_type in _SIGNATURES.items():
        if content.startswith(signature):
            return media_type
    raise _refused(f"an {REFERENCE} is an image: PNG, JPEG, WebP or GIF", REFERENCE)


def _refused(detail: str, param: str) -> GatewayError:
    return GatewayError(HTTPStatus.BAD_REQUEST, detail, code="invalid_value", param=param)
