// openai-node: chat and responses, with its defaults.
import OpenAI from "openai";
import { described, serve } from "./serving.mjs";

const model = "sora";
const client = (baseURL) => new OpenAI({ baseURL, apiKey: "none" });
const body = (prompt, more) => ({ model, messages: [{ role: "user", content: prompt }], ...more });
const event = ({ sequence_number, type, delta = null }) => [sequence_number, type, delta];

function read(chunk, result) {
  for (const { delta, finish_reason } of chunk.choices) {
    if (delta.reasoning_content !== undefined) {
      result.steps.push(delta.reasoning_content);
      result.progress.push(chunk.progress ?? null);
    }
    result.content += delta.content ?? "";
    for (const { url } of delta.output ?? []) if (url) result.urls.push(url);
    result.finish = finish_reason ?? result.finish;
  }
}

const empty = () => ({ steps: [], progress: [], content: "", urls: [], finish: null, error: null });

async function chat({ base_url, prompt, headers, ...more }) {
  const result = empty();
  try {
    const stream = await client(base_url).chat.completions.create(body(prompt, { ...more, stream: true }), { headers });
    for await (const chunk of stream) read(chunk, result);
  } catch (error) {
    result.error = described(error);
  }
  return result;
}

async function helper({ base_url, prompt, ...more }) {
  const result = empty();
  try {
    const stream = client(base_url).chat.completions.stream(body(prompt, more));
    for await (const chunk of stream) read(chunk, result);
    const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
    result.final = { content: message.content, finish: finish_reason };
  } catch (error) {
    result.error = described(error);
  }
  return result;
}

async function whole({ base_url, prompt, ...more }) {
  try {
    const [choice] = (await client(base_url).chat.completions.create(body(prompt, more))).choices;
    return { content: choice.message.content, finish: choice.finish_reason, error: null };
  } catch (error) {
    return { content: null, finish: null, error: described(error) };
  }
}

async function video({ base_url, prompt, download }) {
  try {
    const { videos } = client(base_url);
    let made = await videos.create({ model, prompt });
    while (made.status === "queued" || made.status === "in_progress") made = await videos.retrieve(made.id);
    const content = download ? await (await videos.downloadContent(made.id)).arrayBuffer() : "";
    return { video: made, content: Buffer.from(content).toString("hex"), error: null };
  } catch (error) {
    return { video: null, content: "", error: described(error) };
  }
}

async function deleted({ base_url, prompt }) {
  const { videos } = client(base_url);
  const { id } = await videos.create({ model, prompt });
  const listed = [];
  for await (const video of videos.list()) listed.push(video.id);
  const gone = await videos.delete(id);
  return { id, listed, deleted: gone.deleted, after: await videos.retrieve(id) };
}

async function response({ base_url, prompt, leave_after, by_helper }) {
  const result = { before: [], after: [], final: null, error: null };
  try {
    const { responses } = client(base_url);
    let id, last;
    for await (const one of await responses.create({ model, input: prompt, background: true, stream: true })) {
      result.before.push(event(one));
      id ??= one.response.id;
      last = one.sequence_number;
      if (result.before.length >= leave_after) break;
    }
    const resumed = by_helper
      ? responses.stream({ response_id: id, starting_after: last })
      : await responses.retrieve(id, { stream: true, starting_after: last });
    for await (const one of resumed) result.after.push(event(one));
    result.final = await responses.retrieve(id);
  } catch (error) {
    result.error = described(error);
  }
  return result;
}

async function response_helper({ base_url, prompt }) {
  const result = { events: [], final: null, error: null };
  try {
    const stream = client(base_url).responses.stream({ model, input: prompt, background: true });
    for await (const one of stream) result.events.push(event(one));
    result.final = await stream.finalResponse();
  } catch (error) {
    result.error = described(error);
  }
  return result;
}

async function response_cancelled({ base_url, prompt }) {
  const { responses } = client(base_url);
  const made = await responses.create({ model, input: prompt, background: true });
  const cancelled = await responses.cancel(made.id);
  const after = await responses.retrieve(made.id);
  return { statuses: [made.status, cancelled.status, after.status] };
}

await serve({ chat, helper, whole, video, deleted, response, response_helper, response_cancelled });
