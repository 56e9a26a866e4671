// npm @microsoft/fetch-event-source. It is made for browsers, and comes back after an orderly end only if onclose throws.
import { types, url, write } from "./report.mjs";

globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = await import("@microsoft/fetch-event-source");

class Told204 extends Error {}

try {
  await fetchEventSource(url, {
    openWhenHidden: true,
    async onopen(response) {
      if (response.status === 204) throw new Told204();
      if (response.headers.get("content-type") !== "text/event-stream") process.exit(1);
    },
    onmessage: (message) => write(message.id, message.event, message.data),
    onclose() {
      throw new Error("the stream has ended");
    },
    onerror(error) {
      if (error instanceof Told204) throw error;
    },
  });
} catch (error) {
  if (!(error instanceof Told204)) throw error;
}
