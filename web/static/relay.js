/**
 * The browser's side of a relay: its one stream of everything, and the calls that change something.
 *
 * It needs no other file and no build step. Addresses are relative to this file, so it works under any prefix.
 */

const BASE = new URL("../", import.meta.url);

const CALL_TIMEOUT = 30_000;
const FIRST_RETRY = 1_000;
const LAST_RETRY = 30_000;
const TURNED_AWAY_WITHIN = 1_000;

/** Every type of record. Each is an event of that name in the stream. */
export const RECORD_TYPES = Object.freeze([
  "accepted",
  "checking",
  "received",
  "progress",
  "drafts-fetch",
  "retrying",
  "stalled",
  "log",
  "done",
  "failed",
  "cancelled",
]);

/** What a stream says besides records. */
export const NOTICE_TYPES = Object.freeze(["snapshot", "gap", "skipped", "busy", "bye", "exchange"]);

/**
 * A stream without end. It hands on every record once and in order, across every reconnection.
 *
 * It dispatches, each with its data as `detail`:
 * - `record`: a record, as it is on the wire;
 * - `notice`: `{type, ...}`, a block of the stream that is no record;
 * - `state`: "connecting", "live", "busy" or "closing" (the relay said so), or "lost". It comes back by itself from all.
 */
export class RelayStream extends EventTarget {
  #url;
  #source = null;
  #timer = 0;
  #failures = 0;
  #position = "";
  #seen = new Map();
  #state = "";

  /** @param {Record<string, string>} query what to ask the stream for, such as `{level: "info"}` */
  constructor(query = {}) {
    super();
    this.#url = new URL("v1/events", BASE);
    for (const [name, value] of Object.entries(query)) this.#url.searchParams.append(name, value);
  }

  open() {
    this.close();
    this.#enter("connecting");
    this.#connect();
  }

  close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  #connect() {
    const url = new URL(this.#url);
    if (this.#position) url.searchParams.set("last_event_id", this.#position);
    const source = new EventSource(url);
    this.#source = source;
    source.onopen = () => this.#opened();
    source.onerror = () => this.#lost(source);
    for (const type of RECORD_TYPES) source.addEventListener(type, (event) => this.#hear(event));
    for (const type of NOTICE_TYPES) source.addEventListener(type, (event) => this.#notice(event));
  }

  #opened() {
    // A busy relay opens the stream too, because EventSource takes no other answer for "come back later".
    const wait = this.#state === "busy" ? TURNED_AWAY_WITHIN : 0;
    this.#timer = setTimeout(() => this.#enter("live"), wait);
  }

  #hear(event) {
    const record = JSON.parse(event.data);
    this.#arrived(event);
    if (record.seq <= (this.#seen.get(record.job) ?? 0)) return;
    this.#seen.set(record.job, record.seq);
    this.dispatchEvent(new CustomEvent("record", { detail: record }));
  }

  #notice(event) {
    const notice = { ...JSON.parse(event.data), type: event.type };
    this.#arrived(event);
    if (notice.type === "busy") this.#enter("busy");
    if (notice.type === "bye") this.#enter("closing");
    this.dispatchEvent(new CustomEvent("notice", { detail: notice }));
  }

  #arrived(event) {
    this.#position = event.lastEventId;
    this.#failures = 0;
  }

  #lost(source) {
    clearTimeout(this.#timer);
    if (this.#state === "live" || this.#state === "connecting") this.#enter("lost");
    // [spec] any status but 200 ends an EventSource for good, so a proxy's 502 during a deploy would end the story here.
    if (source.readyState !== EventSource.CLOSED || source !== this.#source) return;
    const delay = Math.min(LAST_RETRY, FIRST_RETRY * 2 ** this.#failures++);
    this.#timer = setTimeout(() => this.#connect(), delay * (0.5 + Math.random() / 2));
  }

  #enter(state) {
    if (state === this.#state) return;
    this.#state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}

/**
 * What a job has become, now that *record* is part of its story: the same fold as the relay's own.
 *
 * A job begins as `{}` or as a snapshot. `text` is the newest one that is more than a sign of polling.
 */
export function evolve(job, record) {
  const next = { percent: null, status: "queued", started: record.at, ...job, job: record.job };
  Object.assign(next, { seq: record.seq, updated: record.at });
  if (record.level !== "debug") Object.assign(next, { text: record.text, level: record.level });
  switch (record.type) {
    case "accepted":
      return Object.assign(next, { upstream: record.upstream, task: record.task });
    case "checking":
      return Object.assign(next, { attempt: record.attempt, of: record.of });
    case "progress":
      return Object.assign(next, { status: record.status, percent: record.percent });
    case "done":
      return Object.assign(next, { status: "succeeded", percent: 100, terminal: record });
    case "failed":
    case "cancelled":
      return Object.assign(next, { status: record.type, terminal: record });
    default:
      return next;
  }
}

/** Call a job off. Resolves to its snapshot; rejects with an Error whose message says why not. */
export function cancel(job) {
  return post(`v1/jobs/${encodeURIComponent(job)}/cancel`);
}

/**
 * Follow `{upstream, task}`, or submit `{upstream, input}`, which may cost money: a call that is made again with the
 * same *key* is never a second submission. Resolves to the job's snapshot; rejects with an Error that says why not.
 */
export function create(job, key = null) {
  return post("v1/jobs", JSON.stringify(job), {
    "Content-Type": "application/json",
    ...(key && { "Idempotency-Key": key }),
  });
}

async function post(path, body = null, headers = {}) {
  let response;
  try {
    response = await fetch(new URL(path, BASE), {
      method: "POST",
      body,
      headers,
      signal: AbortSignal.timeout(CALL_TIMEOUT),
    });
  } catch {
    throw new Error("the relay did not answer");
  }
  // RFC 9457: what went wrong is in `detail`; a proxy in between may say it in another way, or not at all.
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.detail ?? `the relay answered with status ${response.status}`);
  return answer;
}
