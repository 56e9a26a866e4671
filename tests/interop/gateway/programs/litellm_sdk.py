"""litellm: `completion`, through its OpenAI provider."""

from typing import Any

import litellm  # type: ignore[import-not-found]

from tests.interop.gateway.programs.openai_sdk import empty, read
from tests.interop.gateway.programs.serving import Result, described, serve


def chat(base_url: str, prompt: str, **options: Any) -> Result:
    result = empty()
    try:
        for chunk in litellm.completion(**_request(base_url, prompt, options), stream=True):
            read(chunk, result)
    except Exception as error:
        result["error"] = described(error)
    return result


def whole(base_url: str, prompt: str, **options: Any) -> Result:
    try:
        choice = litellm.completion(**_request(base_url, prompt, options)).choices[0]
        return {"content": choice.message.content, "finish": choice.finish_reason, "error": None}
    except Exception as error:
        return {"content": None, "finish": None, "error": described(error)}


def _request(base_url: str, prompt: str, options: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": "openai/sora", "api_base": base_url, "api_key": "none", "messages": messages, **options}


if __name__ == "__main__":
    serve(chat=chat, whole=whole)
