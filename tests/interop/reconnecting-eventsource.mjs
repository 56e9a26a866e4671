// npm reconnecting-eventsource: makes a new EventSource, with the last id in the query, whenever the one it has gives up.
// It would do so for ever; that 204 ends the story is its user's to see.
import { EventSource } from "eventsource";
import Reconnecting from "reconnecting-eventsource";
import { types, url, write } from "./report.mjs";

// Like some browsers, this one gives up where the connection is lost.
class Mortal extends EventSource {
  constructor(...of) {
    super(...of);
    this.addEventListener("error", ({ code }) => {
      this.close();
      if (code) process.exit(code === 204 ? 0 : 1);
    });
  }
}

const source = new Reconnecting(url, { eventSourceClass: Mortal, max_retry_time: 100 });
for (const type of [...types, "message"]) {
  source.addEventListener(type, (event) => write(event.lastEventId, event.type, event.data));
}
