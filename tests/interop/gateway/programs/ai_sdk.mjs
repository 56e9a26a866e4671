// The AI SDK (`ai`) with three providers: OpenAI-compatible, OpenAI, OpenRouter.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { createOpenRouter } from "@openrouter/ai-sdk-provider";
import { generateText, streamText } from "ai";
import { described, serve } from "./serving.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const PROVIDERS = {
  "openai-compatible": (options) => createOpenAICompatible({ name: "relay", ...options }).chatModel("sora"),
  openai: (options) => createOpenAI(options).chat("sora"),
  "openai-responses": (options) => createOpenAI(options).responses("sora"),
  openrouter: (options) => createOpenRouter(options).chat("sora"),
};

const model = (provider, baseURL) => PROVIDERS[provider]({ baseURL, apiKey: "none" });

async function chat({ base_url, prompt, provider, headers }) {
  const result = { steps: [], content: "", finish: null, error: null };
  const { fullStream } = streamText({ model: model(provider, base_url), prompt, headers, onError() {} });
  try {
    for await (const part of fullStream) {
      if (part.type === "reasoning-delta") result.steps.push(part.text);
      if (part.type === "text-delta") result.content += part.text;
      if (part.type === "finish") result.finish = part.finishReason;
      if (part.type === "error") result.error = failure(part.error);
    }
  } catch (error) {
    result.error = failure(error);
  }
  return result;
}

async function whole({ base_url, prompt, provider }) {
  try {
    const { text, finishReason } = await generateText({ model: model(provider, base_url), prompt });
    return { content: text, finish: finishReason, error: null };
  } catch (error) {
    return { content: null, finish: null, error: failure(error) };
  }
}

/** An exception, or the server's own error object, which some providers pass on as it is. */
function failure(error) {
  return error instanceof Error ? described(error) : { class: "object", ...(error.error ?? error) };
}

await serve({ chat, whole });
