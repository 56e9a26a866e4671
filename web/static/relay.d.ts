/** The browser's side of a relay. Served beside relay.js; needs no other types than the browser's own. */

export type Level = "debug" | "info" | "warning" | "error";
export type Status = "queued" | "running" | "succeeded" | "failed" | "cancelled" | "unknown";

/** The fields of every record. Times are RFC 3339, in UTC. */
interface Envelope<Type extends string> {
  readonly v: 1;
  readonly job: string;
  /** 1, 2, 3 ... within a job. */
  readonly seq: number;
  readonly at: string;
  readonly type: Type;
  readonly level: Level;
  /** The record in words, one line. */
  readonly text: string;
}

export interface Accepted extends Envelope<"accepted"> {
  readonly upstream: string;
  readonly task: string | null;
}
export interface Checking extends Envelope<"checking"> {
  readonly attempt: number;
  readonly of: number;
}
export interface Received extends Envelope<"received"> {
  readonly listed: number;
  readonly seconds: number;
}
export interface Progress extends Envelope<"progress"> {
  /** 0 to 100, or null while unknown. Never goes down. */
  readonly percent: number | null;
  readonly status: Status;
  readonly raw_status: string | null;
  readonly source: "reported" | "parsed" | "estimated" | null;
  readonly queue_position: number | null;
  readonly eta: number | null;
  readonly listed: boolean;
  readonly regressed: boolean;
  readonly raw_percent: string | null;
  /** True if it repeats what was published of the job before; its level is `debug` then, and `info` otherwise. */
  readonly unchanged: boolean;
}
export interface DraftsFetch extends Envelope<"drafts-fetch"> {
  readonly attempt: number;
  readonly listed: boolean;
}
export interface Retrying extends Envelope<"retrying"> {
  readonly kind: string;
  readonly message: string;
  readonly attempt: number;
  readonly next_in: number;
}
export interface Stalled extends Envelope<"stalled"> {
  readonly seconds: number;
}
export interface Log extends Envelope<"log"> {
  readonly line: string;
  readonly severity: Level;
}
export interface Done extends Envelope<"done"> {
  readonly urls: readonly string[];
  readonly media_types: readonly string[];
  readonly expires: string | null;
  /** The result beside the files, or in their place: any JSON value; null for none. */
  readonly result: unknown;
}
export interface Failed extends Envelope<"failed"> {
  readonly kind: string;
  readonly message: string;
  readonly retryable: boolean;
}
export interface Cancelled extends Envelope<"cancelled"> {
  readonly by: "caller" | "upstream";
  readonly message: string | null;
}

export type RelayRecord =
  | Accepted
  | Checking
  | Received
  | Progress
  | DraftsFetch
  | Retrying
  | Stalled
  | Log
  | Done
  | Failed
  | Cancelled;

/** The state of a job. */
export interface Snapshot {
  readonly job: string;
  readonly upstream: string;
  readonly task: string | null;
  readonly status: Status;
  readonly percent: number | null;
  /** That of the newest record above `debug`. */
  readonly text: string;
  readonly seq: number;
  readonly started: string;
  readonly updated: string;
  /** The terminal event, or its type alone in the snapshot of a stream; null while the job runs. */
  readonly terminal: object | string | null;
}

/** The notices of a stream, which are no records. */
export type Notice =
  /** Some records cannot be sent; `missed` is null if they cannot be counted. */
  | { readonly type: "gap"; readonly from: string; readonly to: string; readonly missed: number | null }
  /**
   * The state of the jobs. With `polled` the records up to it are still to come; otherwise it replaces records that are
   * no longer kept. With `more` it continues the snapshot before it.
   */
  | { readonly type: "snapshot"; readonly jobs: readonly Snapshot[]; readonly polled?: true; readonly more?: true }
  /** Records were left out, because this browser read too slowly. */
  | { readonly type: "skipped"; readonly missed: number }
  /** There is no such job, or it is no longer kept. */
  | { readonly type: "gone"; readonly job: string }
  | { readonly type: "busy" | "bye"; readonly reason: string }
  /** The access of the stream ends then. A client with a function for `token` or `ticket` goes on with another one. */
  | { readonly type: "expiring"; readonly expires: string }
  /** The access of the stream has ended, or was withdrawn. */
  | { readonly type: "denied"; readonly reason: string }
  /**
   * The response was no stream. The client retries, as with the 502 of a proxy without its server, unless the state
   * becomes `denied`. `redirected`: the response was that of another address, such as the form of a login that has
   * expired at a proxy; `status` is 0 if no script may read it.
   */
  | { readonly type: "refused"; readonly status: number; readonly redirected?: true }
  /** A raw request and its response, if both sides enable `debug`. */
  | { readonly type: "exchange"; readonly [field: string]: unknown };

/** What a function for a token or a ticket receives. */
export interface Asked {
  /** The jobs that it is for; null for all. Absent if it is for no stream. */
  readonly jobs?: readonly string[] | null;
  /** The one before was refused, or is about to expire: give another one. */
  readonly fresh: boolean;
}

/** Returns null if there is none, as after a logout. If it rejects, the stream tries again later. */
export type Giver = (asked: Asked) => Promise<string | null> | string | null;

/** How a request proves what it may do. By default, by the browser's cookies. */
export interface Proof {
  /** Sent as `Authorization: Bearer`, and never as part of an address. A function is called for every connection. */
  token?: string | Giver;
  /**
   * Gives a ticket (`POST /v1/tickets`), which opens one stream: for a page that must not have a token. It is called
   * for each connection, but where the cookie of the first one is sent (`credentials`) and lets a ticket be used again.
   */
  ticket?: Giver;
  /**
   * A name for the token or the ticket. Streams share a connection, also those of other tabs, if they have the same
   * name; without one, if they have the same text or function.
   */
  user?: string;
}

/**
 * - `connecting`: no stream yet, or none for the moment
 * - `live`: the stream is open
 * - `busy`, `closing`: the relay asks the client to reconnect later
 * - `lost`: the relay cannot be reached, or not understood
 * - `polling`: something buffers the stream; the state is polled every few seconds
 * - `ended`: every named job has ended, and no record is left
 * - `denied`: the relay refuses this access (a notice `refused` has the status). Final, until another token or ticket
 *   is set, or until `open`, if cookies or functions may do better now
 */
export type State = "connecting" | "live" | "busy" | "closing" | "lost" | "polling" | "ended" | "denied";

export interface StreamOptions extends Proof {
  /** The ids of the jobs to follow; by default all jobs, future ones included. */
  jobs?: readonly string[] | null;
  /** The lowest level to receive, "debug" by default. Terminal records are received at every level. */
  level?: Level;
  /** Whether to request raw exchanges with the upstream. */
  debug?: boolean;
  /**
   * Whether cookies and a browser's login go with requests, as `fetch` has it: "same-origin" by default; "include" for a
   * relay of another origin; "omit". A connection that streams share has them if one of these does.
   */
  credentials?: RequestCredentials;
}

interface StreamEvents {
  record: CustomEvent<RelayRecord>;
  notice: CustomEvent<Notice>;
  state: CustomEvent<State>;
}

/**
 * A stream of records: each once, and a job's in order, across every reconnection. All streams of all tabs of a browser
 * share one connection, but for those with another token or ticket. It reconnects by itself in every state but `ended`
 * and `denied`. Before a token or ticket of a function expires, it goes on with another one, without a gap.
 */
export class RelayStream extends EventTarget {
  constructor(options?: StreamOptions);
  /** The state of the stream; "" before it is opened. */
  readonly state: State | "";
  /** The position, `epoch-offset`, of the newest record that was dispatched; "" before the first. */
  readonly position: string;
  /** Goes on with another token or ticket, also after `denied`. */
  set token(token: string | Giver | undefined);
  set ticket(ticket: Giver | undefined);
  open(): void;
  close(): void;
  addEventListener<Type extends keyof StreamEvents>(
    type: Type,
    listener: (event: StreamEvents[Type]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** Milliseconds; what is set before the first stream is opened counts, for all tabs. */
export const timing: {
  /** Between two heartbeats of a quiet stream, which is dropped after twice that. The relay's own figure, or 15,000. */
  heartbeat?: number;
  /** Before the first reconnection, at most; it doubles with each further attempt. 1,000. */
  retry?: number;
  /** Before any attempt, at most. 30,000. */
  longest?: number;
  /** Between two polls of the state while the stream is buffered. 3,000. */
  poll?: number;
  /** Until the stream is tried again meanwhile. 60,000. */
  probe?: number;
};

/** The state of a job: a snapshot, and the changes of later records. */
export interface JobState extends Partial<Snapshot> {
  readonly level?: Level;
  /** The number of the poll, and of all polls. */
  readonly attempt?: number;
  readonly of?: number;
  /** The relay does not know the job, or has forgotten it. */
  readonly gone?: boolean;
}

/** The state of a job after *record*. A job starts as `{}` or as a snapshot. */
export function evolve(job: JobState, record: RelayRecord): JobState;

/** As the options of a stream. A call that was answered 401 is repeated once with a fresh token of a function. */
export interface CallOptions extends Proof {
  credentials?: RequestCredentials;
}

/**
 * The present state of a job; the one call that takes a ticket. This and the next two reject with an Error that names
 * the reason, with `status` if known.
 */
export function show(job: string, options?: CallOptions): Promise<Snapshot>;

/** Cancel a job. */
export function cancel(job: string, options?: CallOptions): Promise<Snapshot>;

/**
 * Follow an existing task, or submit one, which may cost money: a call that is repeated with the same *key* never
 * submits twice.
 */
export function create(
  job: { upstream: string; task: string } | { upstream: string; input: Record<string, unknown> },
  key?: string | null,
  options?: CallOptions,
): Promise<Snapshot>;

/**
 * `<relay-progress job="job_..." label="..." cancellable credentials="...">`: one job's progress, status, text and results. It dispatches
 * `change`, with the state as `detail`. Parts: label, status, bar, percent, text, results, value, cancel. A token or a
 * ticket is a property, as in `Proof`, since everything on the page can read attributes.
 */
export class RelayProgress extends HTMLElement {
  state: JobState;
  set token(token: string | Giver | undefined);
  set ticket(ticket: Giver | undefined);
  set user(user: string | undefined);
}

declare global {
  interface HTMLElementTagNameMap {
    "relay-progress": RelayProgress;
  }
}
