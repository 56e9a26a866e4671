// npm event-source-polyfill: comes back by itself with its last id in the query. In browsers it stops at 204; here it
// takes the missing body for a lost connection and would come back for ever, so the end is this program's to see.
import { types, url, write } from "./report.mjs";

const { fetch } = globalThis;
globalThis.fetch = async (...of) => {
  const response = await fetch(...of);
  if (response.status !== 200) process.exit(response.status === 204 ? 0 : 1);
  return response;
};
// It says each lost connection there as well.
console.error = () => {};
const { default: polyfill } = await import("event-source-polyfill");

const source = new polyfill.EventSourcePolyfill(url);
for (const type of [...types, "message"]) {
  source.addEventListener(type, (event) => write(event.lastEventId, event.type, event.data));
}
