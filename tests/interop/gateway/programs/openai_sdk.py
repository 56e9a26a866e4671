"""openai-python: chat, videos and responses, with its defaults."""

import warnings
from collections.abc import Iterable
from typing import Any

from openai import OpenAI

from tests.interop.gateway.programs.serving import Result, described, serve

MODEL = "sora"


def chat(base_url: str, prompt: str, **options: Any) -> Result:
    """One streamed completion, chunk by chunk. *options* are those of `create`."""
    result = empty()
    try:
        with OpenAI(base_url=base_url, api_key="none") as client:
            for chunk in client.chat.completions.create(**_request(prompt, options), stream=True):
                read(chunk, result)
    except Exception as error:
        result["error"] = described(error)
    return result


def helper(base_url: str, prompt: str, **options: Any) -> Result:
    """The same by `chat.completions.stream()`, which accumulates the chunks to a completion."""
    result = empty()
    try:
        with (
            OpenAI(base_url=base_url, api_key="none") as client,
            client.chat.completions.stream(**_request(prompt, options)) as stream,
        ):
            for event in stream:
                if event.type == "chunk":
                    read(event.chunk, result)
            final = stream.get_final_completion().choices[0]
            result["final"] = {
                **final.message.model_dump(exclude={"role", "refusal", "tool_calls", "parsed"}, exclude_none=True),
                "finish": final.finish_reason,
            }
    except Exception as error:
        result["error"] = described(error)
    return result


def whole(base_url: str, prompt: str, **options: Any) -> Result:
    """One completion that is waited for."""
    try:
        with OpenAI(base_url=base_url, api_key="none") as client:
            choice = client.chat.completions.create(**_request(prompt, options)).choices[0]
            return {"content": choice.message.content, "finish": choice.finish_reason, "error": None}
    except Exception as error:
        return {"content": None, "finish": None, "error": described(error)}


def models(base_url: str) -> Result:
    with OpenAI(base_url=base_url, api_key="none") as client:
        return {"models": [model.id for model in client.models.list()]}


def video(base_url: str, prompt: str, *, download: bool = False, **options: Any) -> Result:
    """`videos.create_and_poll`, and with *download* its content."""
    try:
        with OpenAI(base_url=base_url, api_key="none") as client:
            made = client.videos.create_and_poll(model=MODEL, prompt=prompt, **options)
            content = client.videos.download_content(made.id).read() if download else b""
            return {"video": made.model_dump(mode="json"), "content": content.hex(), "error": None}
    except Exception as error:
        return {"video": None, "content": "", "error": described(error)}


def deleted(base_url: str, prompt: str) -> Result:
    """A video that is created, listed, deleted and retrieved."""
    with OpenAI(base_url=base_url, api_key="none") as client:
        made = client.videos.create(model=MODEL, prompt=prompt)
        listed = [video.id for video in client.videos.list()]
        gone = client.videos.delete(made.id)
        after = client.videos.retrieve(made.id)
    return {"id": made.id, "listed": listed, "deleted": gone.deleted, "after": after.model_dump(mode="json")}


def response(base_url: str, prompt: str, *, leave_after: int, by_helper: bool = False) -> Result:
    """A response in the background whose stream is left after some events, and resumed by `starting_after`."""
    result: Result = {"before": [], "after": [], "final": None, "error": None}
    try:
        with OpenAI(base_url=base_url, api_key="none") as client:
            id = sequence = None
            stream = client.responses.create(model=MODEL, input=prompt, background=True, stream=True)
            for event in stream:
                result["before"].append(_event(event))
                id, sequence = id or event.response.id, event.sequence_number  # type: ignore[union-attr]
                if len(result["before"]) >= leave_after:
                    break
            stream.close()
            assert id is not None
            assert sequence is not None
            if by_helper:
                with client.responses.stream(response_id=id, starting_after=sequence) as resumed:
                    result["after"] = [_event(event) for event in resumed]
            else:
                for event in client.responses.retrieve(id, stream=True, starting_after=sequence):
                    result["after"].append(_event(event))
            result["final"] = client.responses.retrieve(id).model_dump(mode="json")
    except Exception as error:
        result["error"] = described(error)
    return result


def response_helper(base_url: str, prompt: str) -> Result:
    """`responses.stream()` from the first event to the final response."""
    result: Result = {"events": [], "final": None, "error": None}
    try:
        with (
            OpenAI(base_url=base_url, api_key="none") as client,
            client.responses.stream(model=MODEL, input=prompt, background=True) as stream,
        ):
            for event in stream:
                result["events"].append(_event(event))
            result["final"] = stream.get_final_response().model_dump(mode="json")
    except Exception as error:
        result["error"] = described(error)
    return result


def response_cancelled(base_url: str, prompt: str) -> Result:
    """A response in the background that is cancelled and retrieved."""
    with OpenAI(base_url=base_url, api_key="none") as client:
        made = client.responses.create(model=MODEL, input=prompt, background=True)
        cancelled = client.responses.cancel(made.id)
        after = client.responses.retrieve(made.id)
    return {"statuses": [made.status, cancelled.status, after.status]}


def _request(prompt: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}], **options}


def _event(event: Any) -> list[Any]:
    return [event.sequence_number, event.type, getattr(event, "delta", None)]


def empty() -> Result:
    """The transcript of a stream that has not begun."""
    return {"steps": [], "progress": [], "content": "", "urls": [], "finish": None, "error": None}


def read(chunk: Any, result: Result) -> None:
    """Add what there is to read in *chunk* to *result*, as a user of the client finds it."""
    for choice in chunk.choices:
        delta = choice.delta
        if (step := getattr(delta, "reasoning_content", None)) is not None:
            result["steps"].append(step)
            result["progress"].append(getattr(chunk, "progress", None))
        result["content"] += delta.content or ""
        result["urls"] += [output["url"] for output in getattr(delta, "output", []) if "url" in output]
        result["finish"] = choice.finish_reason or result["finish"]


def _all(*operations: Any) -> Iterable[tuple[str, Any]]:
    return ((operation.__name__, operation) for operation in operations)


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of `videos`
    serve(**dict(_all(chat, helper, whole, models, video, deleted, response, response_helper, response_cancelled)))
