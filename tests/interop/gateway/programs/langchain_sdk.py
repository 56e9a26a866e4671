"""LangChain for Python: ChatOpenAI, sync and async."""

import asyncio
from typing import Any

from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]

from tests.interop.gateway.programs.serving import Result, described, serve


def chat(base_url: str, prompt: str, **options: Any) -> Result:
    result = _empty()
    try:
        for chunk in _model(base_url, options).stream(prompt):
            _read(chunk, result)
    except Exception as error:
        result["error"] = described(error)
    return result


def chat_async(base_url: str, prompt: str, **options: Any) -> Result:
    result = _empty()

    async def read() -> None:
        async for chunk in _model(base_url, options).astream(prompt):
            _read(chunk, result)

    try:
        asyncio.run(read())
    except Exception as error:
        result["error"] = described(error)
    return result


def whole(base_url: str, prompt: str, **options: Any) -> Result:
    try:
        message = _model(base_url, options).invoke(prompt)
        return {"content": message.content, "finish": message.response_metadata["finish_reason"], "error": None}
    except Exception as error:
        return {"content": None, "finish": None, "error": described(error)}


def _model(base_url: str, options: dict[str, Any]) -> Any:
    return ChatOpenAI(base_url=base_url, api_key="none", model="sora", **options)


def _empty() -> Result:
    return {"texts": [], "finish": None, "error": None}


def _read(chunk: Any, result: Result) -> None:
    if chunk.content:
        result["texts"].append(chunk.content)
    result["finish"] = chunk.response_metadata.get("finish_reason") or result["finish"]


if __name__ == "__main__":
    serve(chat=chat, chat_async=chat_async, whole=whole)
