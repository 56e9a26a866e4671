// The connections of all tabs: a SharedWorker or, without one, a single tab holds them for all. Streams share one, unless
// they have credentials of their own.
// An EventSource hides heartbeats and statuses, and ends for good at any status but 200: so fetch reads the stream.

import { LEVELS, Parser, read } from "./event-stream.js";
import { Credential, NONE } from "./credential.js";

const BASE = new URL("../", import.meta.url);
const SSE = "text/event-stream";
// A shared connection sends cookies if one of its streams needs them.
const CREDENTIALS = ["include", "same-origin", "omit"];
const TERMINALS = ["done", "failed", "cancelled"];
const SNAPSHOT_JOBS = 100;
const MOST_NAMED = 100;
const TIMING = { retry: 1_000, longest: 30_000, poll: 3_000, probe: 60_000 };
const SETTLE = 20;
// Before another credential is asked for, if the tab still gave the one that expires.
const ASK_AGAIN = 10_000;
// Bounds, in milliseconds, of the delay that a relay or a proxy may request: 0 would cause a storm of requests, and a
// timer of more than 24 days fires at once.
const SOONEST = 200;
const LATEST = 300_000;

class Hub {
  #key;
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
  #credential = new Credential();
  // The next connection, opened with a fresh credential while the present one is still read.
  #renewal = null;
  #renewed = null;

  constructor(key) {
    this.#key = key;
  }

  join(from, wish, post) {
    const send = (message) => post({ to: from, ...message });
    this.#streams.set(from, { ...wish, send, joins: true });
    this.#timing = { ...TIMING, ...wish.timing };
    this.#credential.join(from, wish.asks, send);
    send({ state: this.#state });
    this.#change();
  }

  leave(from) {
    this.#streams.delete(from);
    this.#credential.leave(from);
    this.#change();
  }

  answer(from, { ask, credential }) {
    this.#credential.answer(from, ask, credential);
  }

  // Elements of a page open their streams one by one.
  #change() {
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
    this.#renewal?.attempt.abort();
    this.#renewal = null;
    this.#wake();
    if (!this.#running) this.#run();
  }

  async #run() {
    this.#running = true;
    while (this.#streams.size) {
      const pause = await this.#connect();
      if (!pause || this.#renewal) continue;
      await new Promise((resolve) => setTimeout((this.#wake = resolve), pause));
    }
    this.#running = false;
    this.#heal("connecting");
    if (hubs.get(this.#key) === this) hubs.delete(this.#key);
  }

  // Returns the milliseconds until the next one is due.
  async #connect() {
    const { attempt, opened } = this.#renewal ?? { attempt: new AbortController() };
    this.#attempt = attempt;
    this.#renewal = null;
    let began = 0;
    let patience = this.#patience();
    let [timer, mute, live] = [0, false, false];
    const listen = () => {
      clearTimeout(timer);
      timer = setTimeout(() => attempt.abort((mute = true)), patience);
    };
    try {
      const request = await (opened?.request ?? this.#request(SSE, attempt.signal));
      if (!request) return this.#deny(this.#credential.refusal);
      began = performance.now();
      listen();
      const response = opened?.response ?? (await fetch(...request));
      const { status } = response;
      const told = (name) => Math.min(LATEST, 1_000 * response.headers.get(name) || 0);
      if (status === 204) return await this.#stopped(attempt.signal);
      if (status !== 200 || !isStream(response)) {
        if (this.#isDenied(response)) return this.#credential.refused(status) ? 0 : this.#deny(status);
        this.#pass({ type: "refused", data: { status, ...(response.redirected && { redirected: true }) } });
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
          this.#credential.accepted();
          this.#heal("live");
        }
        if (this.#take(events, parser.retry)) return 0;
      }
      return this.#lose(live, parser.retry);
    } catch {
      if (mute) return this.#muted();
      if (attempt.signal.aborted) return 0;
      // A login that has expired redirects to a page that no script may read, and so does not seem to answer.
      if (began && !live && this.#failures === 1) await this.#explain();
      return this.#lose(live);
    } finally {
      clearTimeout(timer);
      attempt.abort();
    }
  }

  // The arguments of fetch; null if there is no credential.
  async #request(accept, signal, fresh) {
    const url = this.#url();
    const credentials = this.#credentials();
    const named = url.searchParams.getAll("job");
    const cookies = credentials === "include" || (credentials === "same-origin" && BASE.origin === location.origin);
    const proof = await this.#credential.get(named.length ? named : null, signal, { fresh, cookies });
    signal.throwIfAborted();
    if (proof === NONE) return null;
    if (proof.ticket) url.searchParams.set("ticket", proof.ticket);
    const resume = accept === SSE && this.#position && { "Last-Event-ID": this.#position };
    const headers = { Accept: accept, ...resume, ...(proof.token && { Authorization: `Bearer ${proof.token}` }) };
    return [url.href, { headers, credentials, cache: "no-store", signal }];
  }

  // Before the credential expires, go on with another one. The old stream is read until the new one is open; what both
  // send is dispatched once, by its number.
  async #renew(old) {
    this.#renewed = old;
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    old.signal.addEventListener("abort", stop);
    try {
      const request = await this.#request(SSE, attempt.signal, true);
      const response = request && (await fetch(...request));
      if (response?.status === 200 && isStream(response)) {
        old.signal.removeEventListener("abort", stop);
        this.#renewal = { attempt, opened: { request, response } };
        return old.abort();
      }
    } catch {}
    attempt.abort();
    setTimeout(() => old.signal.aborted || this.#renew(old), ASK_AGAIN);
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
      if (type === "expiring" && this.#credential.asks && this.#renewed !== this.#attempt) this.#renew(this.#attempt);
      if (type === "denied") this.#credential.refused(401);
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
      const { jobs } = await (await this.#standing()).json();
      if (!this.#polling) return;
      this.#enter("polling");
      this.#pass({ type: "snapshot", data: { jobs, polled: true } });
    } catch {
      this.#dim("lost");
    }
  }

  // The stream's address answers a client that takes no stream with the state of its jobs.
  async #standing(signal = AbortSignal.timeout(this.#patience())) {
    return fetch(...(await this.#request("application/json", signal)));
  }

  // 204: every job has ended and its end was received; or a cookie or a ticket is worth nothing.
  async #stopped(signal) {
    if (this.#credential.spent()) return 0;
    const response = await this.#standing(signal);
    if (response.status !== 200) return this.#end("denied");
    const { jobs } = await response.json();
    // Another tab may have signed in meanwhile.
    return jobs.every(({ terminal }) => terminal) ? this.#end("ended") : this.#lose();
  }

  async #explain() {
    try {
      const { type } = await fetch(new URL("v1/jobs", BASE), {
        method: "HEAD",
        redirect: "manual",
        credentials: this.#credentials(),
        signal: AbortSignal.timeout(this.#patience()),
      });
      if (type === "opaqueredirect") this.#pass({ type: "refused", data: { status: 0, redirected: true } });
    } catch {}
  }

  // A refusal by the relay is final; a proxy may let the client in again after a while.
  #isDenied({ status, headers }) {
    const ours = this.#credential.asks || headers.get("Content-Type")?.startsWith("application/problem+json");
    return ours && (status === 401 || status === 403);
  }

  #deny(status) {
    this.#pass({ type: "refused", data: { status } });
    return this.#end("denied");
  }

  #end(state) {
    for (const [id, { joins, send }] of this.#streams) {
      if (joins) continue;
      send({ state });
      this.#streams.delete(id);
      this.#credential.leave(id);
      places.delete(id);
    }
    return SETTLE;
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
    return url;
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

const advances = ({ type }) => !["busy", "bye", "gone", "expiring", "denied"].includes(type);

const isStream = ({ headers }) => headers.get("Content-Type")?.startsWith(SSE);

// A position is `epoch-offset`.
const offset = (position) => +position.split("-").at(-1);

// By the key of a credential, and by the id of a stream.
const hubs = new Map();
const places = new Map();

function hear({ from, wish, ...answer }, post) {
  const before = places.get(from);
  if (answer.ask) return before?.answer(from, answer);
  const hub = wish && (hubs.get(wish.key) ?? new Hub(wish.key));
  if (before !== hub) before?.leave(from);
  if (!wish) return places.delete(from);
  hubs.set(wish.key, hub);
  places.set(from, hub);
  hub.join(from, wish, post);
}

export function serve(port) {
  port.onmessage = ({ data }) => data.from && hear(data, (message) => port.postMessage(message));
}

addEventListener("connect", ({ ports }) => ports && serve(ports[0]));
addEventListener("online", () => hubs.forEach((hub) => hub.nudge()));
