// npm eventsource-parser: only parses. Coming back is this program's work, as it is of everybody who uses it.
import { createParser } from "eventsource-parser";
import { url, write } from "./report.mjs";

let last = "";
const parser = createParser({
  onId: (id) => (last = id),
  onEvent: (event) => write(event.id ?? last, event.event, event.data),
});

for (;;) {
  const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
  const response = await fetch(url, { headers });
  if (response.status === 204) break;
  parser.reset();
  try {
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) parser.feed(text);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // so fetch says that the connection was lost
  }
}
