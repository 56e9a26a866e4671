// LangChain for JavaScript: ChatOpenAI.
import { ChatOpenAI } from "@langchain/openai";
import { described, serve } from "./serving.mjs";

const model = (baseURL, options) => new ChatOpenAI({ model: "sora", apiKey: "none", configuration: { baseURL }, ...options });

async function chat({ base_url, prompt, ...options }) {
  const result = { steps: [], texts: [], finish: null, error: null };
  try {
    for await (const chunk of await model(base_url, options).stream(prompt)) {
      if (chunk.additional_kwargs.reasoning_content) result.steps.push(chunk.additional_kwargs.reasoning_content);
      if (chunk.content) result.texts.push(chunk.content);
      result.finish = chunk.response_metadata.finish_reason ?? result.finish;
    }
  } catch (error) {
    result.error = described(error);
  }
  return result;
}

async function whole({ base_url, prompt, ...options }) {
  try {
    const message = await model(base_url, options).invoke(prompt);
    return { content: message.content, finish: message.response_metadata.finish_reason, error: null };
  } catch (error) {
    return { content: null, finish: null, error: described(error) };
  }
}

await serve({ chat, whole });
