// The one connection of all tabs: a SharedWorker or, without one, a single tab runs this for all.
// An EventSource hides heartbeats and statuses, and ends for good at any status but 200: so fetch reads the stream.

const BASE = new URL("../", import.meta.url);
const SSE = "text/event-stream";
// All share one connection, which sends cookies if one of them needs them.
const CREDENTIALS = ["include", "same-origin", "omit"];
const LEVELS = ["debug", "info", "warning", "error"];
const TERMINALS = ["done", "failed", "cancelled"];
const SNAPSHOT_JOBS = 100;
const MOST_NAMED = 100;
const TIMING = { retry: 1_000, longest: 30_000, poll: 3_000, probe: 60_000 };
const SETTLE = 20;
// Bounds, in milliseconds, of the delay that a relay or a proxy may request: 0 would cause a storm of requests, and a
// timer of more than 24 days fires at once.
const SOONEST = 200;
const LATEST = 300_000;

// [spec] WHATWG HTML, 9.2.6
export class Parser {
  retry = null;
  commented = false;
  #decoder = new TextDecoder();
  #rest = "";
  #halved = false;
  #id = "";
  #type = "";
  #data = [];

  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return [];
    if (this.#halved && text[0] === "\n") text = text.slice(1);
    this.#halved = text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter(Boolean);
  }

  #line(line) {
    if (!line) return this.#block();
    const [, name, value = ""] = /^([^:]*):? ?(.*)/s.exec(line);
    if (!name) this.commented = true;
    if (name === "event") this.#type = value;
    if (name === "data") this.#data.push(value);
    if (name === "id" && !value.includes("\0")) this.#id = value;
    if (name === "retry" && /^\d+$/.test(value)) this.retry = +value;
  }

  #block() {
    const block = this.#data.length && { type: this.#type || "message", id: this.#id, data: this.#data.join("\n") };
    this.#type = "";
    this.#data = [];
    return block;
  }
}

class Hub {
  #streams = new Map();
  #timing = TIMING;
  #state = "connecting";
  #running = false;
  #attempt = null;
  #wake = () => {};
  #settling = 0;
  // The position to resume from, and the position before the stream went back to send a new stream the past.
  #position = "";
  #furthest = "";
  #failures = 0;
  #mutes = 0;
  #polling = 0;

  hear({ from, wish }, post) {
    this.#streams.delete(from);
    if (wish) {
      const send = (message) => post({ to: from, ...message });
      this.#streams.set(from, { ...wish, send, joins: true });
      this.#timing = { ...TIMING, ...wish.timing };
      send({ state: this.#state });
    }
    // Elements of a page open their streams one by one.
    this.#settling ||= setTimeout(() => this.#settle(), SETTLE);
  }

  nudge() {
    if (!["busy", "closing"].includes(this.#state)) this.#wake();
  }

  #settle() {
    this.#settling = 0;
    const all = [...this.#streams.values()];
    const joining = all.filter((stream) => stream.joins);
    if (all.length && !joining.length) return;
    const [start = ""] = joining.map((stream) => stream.position).sort((one, other) => offset(one) - offset(other));
    for (const stream of joining) stream.joins = false;
    if (all.length === joining.length) this.#position = start;
    else if (offset(start) < offset(this.#position)) {
      this.#furthest ||= this.#position;
      this.#position = start;
    }
    this.#attempt?.abort();
    this.#wake();
    if (!this.#running) this.#run();
  }

  async #run() {
    this.#running = true;
    while (this.#streams.size) {
      const pause = await this.#connect();
      if (!pause) continue;
      await new Promise((resolve) => setTimeout((this.#wake = resolve), pause));
    }
    this.#running = false;
    this.#furthest = "";
    this.#heal("connecting");
  }

  // Returns the milliseconds until the next one is due.
  async #connect() {
    const attempt = (this.#attempt = new AbortController());
    const began = performance.now();
    let patience = this.#patience();
    let [timer, mute, live] = [0, false, false];
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(() => attempt.abort((mute = true)), patience);
    };
    listen();
    try {
      const headers = { Accept: SSE, ...(this.#position && { "Last-Event-ID": this.#position }) };
      const credentials = this.#credentials();
      const response = await fetch(this.#url(), { headers, credentials, cache: "no-store", signal: attempt.signal });
      const { status } = response;
      const told = (name) => Math.min(LATEST, 1_000 * response.headers.get(name) || 0);
      if (status === 204) return this.#finish();
      if (status !== 200 || !response.headers.get("Content-Type")?.startsWith(SSE)) {
        this.#pass({ type: "refused", data: { status } });
        return Math.max(this.#lose(), told("Retry-After"));
      }
      patience = this.#patience(told("Relay-Heartbeat") || undefined);
      const parser = new Parser();
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        attempt.signal.throwIfAborted();
        if (done) break;
        listen();
        if (performance.now() - began > patience) this.#mutes = 0;
        const events = parser.push(value).map(read).filter(Boolean);
        // A relay that refuses a client opens a stream, too.
        if (!live && (parser.commented || events.some(advances))) {
          live = true;
          this.#heal("live");
        }
        if (this.#take(events, parser.retry)) return 0;
      }
      return this.#lose(live, parser.retry);
    } catch {
      if (mute) return this.#muted();
      return attempt.signal.aborted ? 0 : this.#lose(live);
    } finally {
      clearTimeout(timer);
      attempt.abort();
    }
  }

  // Returns whether the next connection is due at once.
  #take(events, retry) {
    for (const event of events) {
      const { type, id, data } = event;
      if (type === "snapshot" && this.#furthest) {
        // The past is gone: new streams receive a snapshot, and the others lose nothing.
        this.#pass(event, true);
        if (data.jobs.length === SNAPSHOT_JOBS) continue;
        this.#position = this.#furthest;
        this.#furthest = "";
        return true;
      }
      if (type === "busy") this.#enter("busy");
      // A stream that is only renewed is back before a user could read that.
      if (type === "bye" && retry >= 1_000) this.#enter("closing");
      if (advances(event)) this.#position = id;
      if (offset(this.#position) >= offset(this.#furthest)) this.#furthest = "";
      this.#pass(event);
      if (type === "gone") {
        for (const stream of this.#streams.values()) stream.jobs &&= stream.jobs.filter((job) => job !== data.job);
        return true;
      }
    }
  }

  #pass(event, onlyNew = false) {
    for (const stream of this.#streams.values()) {
      // A stream that joins receives the past first.
      const mine = !stream.joins && !(onlyNew && stream.position) && concerns(stream, event);
      if (!mine) continue;
      stream.send({ event: mine });
      stream.position = this.#position;
    }
  }

  // A proxy that buffers streams delivers responses that end.
  #muted() {
    if (++this.#mutes < 2) return this.#lose();
    this.#polling ||= setInterval(() => this.#poll(), this.#timing.poll);
    this.#poll();
    return this.#timing.probe;
  }

  async #poll() {
    try {
      const [credentials, signal] = [this.#credentials(), AbortSignal.timeout(this.#patience())];
      const response = await fetch(new URL("v1/jobs", BASE), { credentials, signal });
      const { jobs } = await response.json();
      if (!this.#polling) return;
      this.#enter("polling");
      this.#pass({ type: "snapshot", data: { jobs, polled: true } });
    } catch {
      this.#dim("lost");
    }
  }

  #finish() {
    for (const [id, { joins, send }] of this.#streams) {
      if (joins) continue;
      send({ state: "ended" });
      this.#streams.delete(id);
    }
    return 0;
  }

  #url() {
    const streams = [...this.#streams.values()];
    const url = new URL("v1/events", BASE);
    const jobs = new Set(streams.flatMap((stream) => stream.jobs ?? []));
    // An address has no room for many more.
    if (streams.every((stream) => stream.jobs) && jobs.size <= MOST_NAMED) {
      for (const job of jobs) url.searchParams.append("job", job);
    }
    url.searchParams.set("level", LEVELS.find((level) => streams.some((stream) => stream.level === level)));
    if (streams.some((stream) => stream.debug)) url.searchParams.set("debug", "1");
    return url.href;
  }

  #credentials() {
    return CREDENTIALS.find((mode) => [...this.#streams.values()].some(({ credentials }) => credentials === mode));
  }

  #patience(told = 15_000) {
    return 2 * (this.#timing.heartbeat ?? told);
  }

  #heal(state) {
    clearInterval(this.#polling);
    this.#polling = this.#failures = 0;
    this.#enter(state);
  }

  #lose(live, retry) {
    this.#dim(live ? "connecting" : "lost");
    const most = this.#timing.retry * 2 ** (live ? 0 : this.#failures++);
    if (retry !== null && retry !== undefined) return Math.min(Math.max(retry, SOONEST), LATEST);
    return Math.min(this.#timing.longest, most) * (0.5 + Math.random() / 2);
  }

  #dim(state) {
    if (["live", "connecting", "polling"].includes(this.#state)) this.#enter(state);
  }

  #enter(state) {
    if (state === this.#state) return;
    this.#state = state;
    for (const { send } of this.#streams.values()) send({ state });
  }
}

const isText = (value) => typeof value === "string";
const isFigure = (value) => value == null || Number.isFinite(value);
const isTime = (value) => isText(value) && !Number.isNaN(Date.parse(value));
const isJob = (one) => isText(one?.job) && Number.isSafeInteger(one.seq) && isFigure(one.percent);

// The fields that each notice must have, since pages rely on them.
const NOTICES = {
  snapshot: ({ jobs }) => Array.isArray(jobs) && jobs.every(isJob),
  gap: ({ from, to, missed }) => isText(from) && isText(to) && isFigure(missed),
  skipped: ({ missed }) => Number.isFinite(missed),
  gone: ({ job }) => isText(job),
  busy: () => true,
  bye: () => true,
  heartbeat: () => true,
  exchange: ({ seconds }) => Number.isFinite(seconds),
};

// A block as it is passed on; nothing for a block that is neither a record nor a notice.
function read({ type, id, data: text }) {
  let data = null;
  try {
    data = JSON.parse(text);
  } catch {}
  if (data?.constructor !== Object) return null;
  const { at, text: words, level, urls = [] } = data;
  const whole = data.seq
    ? isJob(data) && isTime(at) && isText(words) && LEVELS.includes(level) && Array.isArray(urls) && urls.every(isText)
    : Object.hasOwn(NOTICES, type) && NOTICES[type](data);
  return whole && { type, id, data };
}

function concerns({ jobs, level, debug }, event) {
  const { type, data } = event;
  const named = ({ job }) => !jobs || jobs.includes(job);
  if (data.seq) {
    return (LEVELS.indexOf(data.level) >= LEVELS.indexOf(level) || TERMINALS.includes(type)) && named(data) && event;
  }
  if (type === "exchange") return debug && event;
  if (type === "gone") return named(data) && event;
  if (type === "snapshot") return { ...event, data: { ...data, jobs: data.jobs.filter(named) } };
  return event;
}

const advances = ({ type }) => !["busy", "bye", "gone"].includes(type);

// A position is `epoch-offset`.
const offset = (position) => +position.split("-").at(-1);

const hub = new Hub();

export function serve(port) {
  port.onmessage = ({ data }) => data.from && hub.hear(data, (message) => port.postMessage(message));
}

addEventListener("connect", ({ ports }) => ports && serve(ports[0]));
addEventListener("online", () => hub.nudge());
