// npm eventsource: an EventSource for Node. It comes back by itself with the last id, and stops when it is told 204.
import { EventSource } from "eventsource";
import { types, url, write } from "./report.mjs";

// Its timer for coming back does not keep the process alive.
const alive = setInterval(() => {}, 1_000_000);
const source = new EventSource(url);
for (const type of types) {
  source.addEventListener(type, (event) => write(event.lastEventId, event.type, event.data));
}
source.onmessage = (event) => write(event.lastEventId, event.type, event.data);
source.onerror = (event) => {
  if (source.readyState !== EventSource.CLOSED) return;
  clearInterval(alive);
  process.exitCode = event.code === 204 ? 0 : 1;
};
