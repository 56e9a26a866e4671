// The browser's side of a relay, under any prefix. relay.d.ts describes what is exported.

import { RelayProgress } from "./relay-progress.js";

const BASE = new URL("../", import.meta.url);
const CALL_TIMEOUT = 30_000;
// The version of the messages between tabs and their worker: raise it with each change of them. A tab of an older
// release, which may be open for days, keeps its worker and must not share this one.
const PROTOCOL = 4;
const TERMINALS = new Set(["done", "failed", "cancelled"]);

export const timing = {};

const streams = new Map();
// Numbers for functions, so that streams with the same one share a connection.
const functions = new WeakMap();
let port = null;

const random = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

const ask = (id) => port?.postMessage({ from: id, wish: streams.get(id)?.wish() });
const askAll = () => [...streams.keys()].forEach(ask);

function connect() {
  try {
    const worker = new SharedWorker(new URL("relay-worker.js", import.meta.url), { type: "module", name: `relay ${PROTOCOL}` });
    worker.onerror = elect;
    use(worker.port);
  } catch {
    elect();
  }
}

// The tab that holds the lock serves all; when it closes, the next one gets the lock.
function elect() {
  const name = `relay ${PROTOCOL} ${BASE}`;
  // Loaded now: the relay may be away when the turn of this tab comes.
  const loaded = import("./relay-worker.js");
  const work = async (port) => (await loaded).serve(port);
  if (!navigator.locks) {
    const { port1, port2 } = new MessageChannel();
    work(port2);
    return use(port1);
  }
  use(new BroadcastChannel(name));
  navigator.locks.request(name, async () => {
    const channel = new BroadcastChannel(name);
    await work(channel);
    channel.postMessage({ hello: true });
    return new Promise(() => {});
  });
}

function use(to) {
  port = to;
  port.onmessage = ({ data }) => (data.hello ? askAll() : streams.get(data.to)?.hear(data));
  askAll();
}

addEventListener("pagehide", () => streams.forEach((_, from) => port.postMessage({ from })));
addEventListener("pageshow", ({ persisted }) => persisted && askAll());

export class RelayStream extends EventTarget {
  #id = random();
  #options;
  #proof;
  #awaited;
  #position = "";
  #seen = new Map();
  #state = "";
  #last = "";

  constructor({ jobs = null, level = "debug", debug = false, credentials = "same-origin", ...proof } = {}) {
    super();
    this.#options = { jobs, level, debug, credentials };
    this.#proof = proof;
    this.#awaited = jobs && new Set(jobs);
  }

  get state() {
    return this.#state;
  }

  get position() {
    return this.#position;
  }

  set token(token) {
    this.#prove({ token });
  }

  set ticket(ticket) {
    this.#prove({ ticket });
  }

  open() {
    if (this.#state === "ended") return;
    this.#enter("connecting");
    streams.set(this.#id, {
      wish: () => ({ ...this.#options, ...sharing(this.#proof), jobs: this.#left, position: this.#position, timing }),
      hear: ({ state, event, ask, jobs, fresh }) => {
        if (ask) this.#answer(ask, { jobs, fresh });
        else if (event) this.#hear(event);
        else this.#enter(state);
      },
    });
    if (port) ask(this.#id);
    else connect();
  }

  close() {
    if (streams.delete(this.#id)) ask(this.#id);
  }

  #prove(changed) {
    Object.assign(this.#proof, changed);
    if (streams.has(this.#id)) ask(this.#id);
    else if (this.#state === "denied") this.open();
  }

  get #left() {
    return this.#awaited && [...this.#awaited];
  }

  // Without a credential, the worker retries later: the tab may have been offline.
  async #answer(ask, how) {
    const credential = await given(this.#proof.token ?? this.#proof.ticket, how).catch(() => undefined);
    port.postMessage({ from: this.#id, ask, credential });
  }

  #hear({ type, id, data }) {
    this.#told(type, id, data);
    this.#last = type;
  }

  #told(type, id, data) {
    if (data.seq) {
      this.#position = id;
      if (data.seq <= this.#seen.get(data.job)) return;
      this.#seen.set(data.job, data.seq);
      this.#tell("record", data);
      if (TERMINALS.has(type)) this.#over(data.job);
    } else {
      // The journal was begun anew, and so may be the numbers of its jobs.
      if (type === "gap" && data.from.split("-")[0] !== data.to.split("-")[0]) this.#seen.clear();
      // A snapshot of many jobs comes in several blocks.
      const more = type === "snapshot" && this.#last === type && !data.polled;
      if (["snapshot", "heartbeat"].includes(type) && id) this.#position = id;
      if (type === "heartbeat") return;
      this.#tell("notice", { ...data, type, ...(more && { more }) });
      if (type === "gone") this.#over(data.job);
      if (type === "snapshot" && !data.polled) data.jobs.forEach(({ job, terminal }) => terminal && this.#over(job));
    }
  }

  #over(job) {
    if (this.#awaited?.delete(job) && !this.#awaited.size) this.#enter("ended");
  }

  #enter(state) {
    if (state === this.#state) return;
    this.#state = state;
    if (state === "ended" || state === "denied") this.close();
    this.#tell("state", state);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

// The same fold as the relay's own: tests/jobs/fold.json holds both.
export function evolve(job, record) {
  // A snapshot may be ahead of the records that still come.
  if (record.seq <= job.seq) return job;
  const { v, job: id, seq, at, level, text, ...event } = record;
  const none = { upstream: "", task: null, status: "queued", percent: null, text: "", started: at, terminal: null };
  const next = { ...none, ...job, job: id, seq, updated: at };
  if (level !== "debug") Object.assign(next, { text, level });
  switch (event.type) {
    case "accepted":
      return Object.assign(next, { upstream: event.upstream, task: event.task });
    case "checking":
      return Object.assign(next, { attempt: event.attempt, of: event.of });
    case "progress":
      return event.listed === false ? next : Object.assign(next, { status: event.status, percent: event.percent });
    case "done":
      return Object.assign(next, { status: "succeeded", percent: 100, terminal: event });
    case "failed":
    case "cancelled":
      return Object.assign(next, { status: event.type, terminal: event });
    default:
      return next;
  }
}

export async function show(job, how = {}) {
  const path = `v1/jobs/${encodeURIComponent(job)}`;
  if (how.token || !how.ticket) return call(path, {}, how);
  // A ticket is for streams: the address of one answers with the state, if that is what a client accepts.
  const ticket = encodeURIComponent(await given(how.ticket, { jobs: [job], fresh: false }));
  const { jobs } = await call(`${path}/events?ticket=${ticket}`, { headers: { Accept: "application/json" } }, how);
  if (!jobs) throw Object.assign(new Error("the relay does not accept this ticket"), { status: 401 });
  return jobs[0];
}

export const cancel = (job, how) => call(`v1/jobs/${encodeURIComponent(job)}/cancel`, { method: "POST" }, how);

export function create(job, key, how) {
  const headers = { "Content-Type": "application/json", ...(key && { "Idempotency-Key": key }) };
  return call("v1/jobs", { method: "POST", body: JSON.stringify(job), headers }, how);
}

async function call(path, options, { credentials, token } = {}, fresh = false) {
  const proof = await given(token, { fresh });
  let response;
  try {
    const signal = AbortSignal.timeout(CALL_TIMEOUT);
    const headers = { ...options.headers, ...(proof && { Authorization: `Bearer ${proof}` }) };
    response = await fetch(new URL(path, BASE), { ...options, headers, credentials, signal });
  } catch {
    throw new Error("the relay did not answer");
  }
  // What was refused has done nothing, so that it may be sent again.
  if (response.status === 401 && typeof token === "function" && !fresh) return call(path, options, { credentials, token }, true);
  // RFC 9457 names the reason in `detail`; a proxy may name it elsewhere, or not at all.
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    const { status } = response;
    throw Object.assign(new Error(answer.detail ?? `the relay answered with status ${status}`), { status });
  }
  return answer;
}

// A token or ticket, or the function that gives one.
const given = async (from, how) => (typeof from === "function" ? from(how) : from);

// The kind of a stream's credential, and the key of the connection that it shares.
function sharing({ token, ticket, user }) {
  const from = token ?? ticket;
  if (!from) return { key: "", asks: "" };
  const asks = token ? "token" : "ticket";
  if (typeof from === "function" && !functions.has(from)) functions.set(from, random());
  return { key: `${asks} ${user ? `of ${user}` : (functions.get(from) ?? from)}`, asks };
}

export { RelayProgress };
// Elements in the page are upgraded at once, and need the code above.
customElements.define("relay-progress", RelayProgress);
