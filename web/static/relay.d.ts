/** The browser's side of a relay. Served beside relay.js; needs no other types than the browser's own. */

export type Level = "debug" | "info" | "warning" | "error";
export type Status = "queued" | "running" | "succeeded" | "failed" | "cancelled" | "unknown";

/** What every record has. Times are RFC 3339, in UTC. */
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

/** Where a job stands. */
export interface Snapshot {
  readonly job: string;
  readonly upstream: string;
  readonly task: string | null;
  readonly status: Status;
  readonly percent: number | null;
  readonly text: string;
  readonly seq: number;
  readonly started: string;
  readonly updated: string;
  /** The terminal event, or its type alone in the snapshot of a stream; null while the job runs. */
  readonly terminal: object | string | null;
}

/** What a stream says besides records. */
export type Notice =
  /** Part of the story cannot be given; `missed` is null where it cannot be counted. */
  | { readonly type: "gap"; readonly from: string; readonly to: string; readonly missed: number | null }
  /**
   * Where the jobs stand. With `polled` the records between are still to come; otherwise it stands for what is no longer
   * kept. With `more` it goes on with what the snapshot before it began.
   */
  | { readonly type: "snapshot"; readonly jobs: readonly Snapshot[]; readonly polled?: true; readonly more?: true }
  /** Records were left out, because this browser read too slowly. */
  | { readonly type: "skipped"; readonly missed: number }
  /** There is no such job, or it is no longer kept. */
  | { readonly type: "gone"; readonly job: string }
  | { readonly type: "busy" | "bye"; readonly reason: string }
  /** Something answered that is no stream, such as a proxy without its server. It is tried again. */
  | { readonly type: "refused"; readonly status: number }
  /** A raw request and its answer, where both sides asked for `debug`. */
  | { readonly type: "exchange"; readonly [field: string]: unknown };

/**
 * - `connecting`: no stream yet, or none for the moment
 * - `live`: the stream is open
 * - `busy`, `closing`: the relay asked to come back later
 * - `lost`: the relay cannot be reached, or not understood
 * - `polling`: something holds the stream back; the state is asked for every few seconds
 * - `ended`: every named job has ended, and nothing is left to come
 */
export type State = "connecting" | "live" | "busy" | "closing" | "lost" | "polling" | "ended";

export interface StreamOptions {
  /** The ids of the jobs to hear of; without it, all jobs, also those that are still to come. */
  jobs?: readonly string[] | null;
  /** The least important level to hear of, "debug" by default. How a job ends comes through every level. */
  level?: Level;
  /** Whether to ask for raw exchanges with the upstream. */
  debug?: boolean;
}

interface StreamEvents {
  record: CustomEvent<RelayRecord>;
  notice: CustomEvent<Notice>;
  state: CustomEvent<State>;
}

/**
 * A stream of records: each once, and a job's in order, across every reconnection. All streams of all tabs of a browser
 * share one connection. It comes back by itself from everything but `ended`.
 */
export class RelayStream extends EventTarget {
  constructor(options?: StreamOptions);
  /** How it stands with the stream; "" before it is opened. */
  readonly state: State | "";
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
  /** Between two signs of life of a quiet stream; it is dropped after twice that. What the relay says, or 15,000. */
  heartbeat?: number;
  /** Before the first try to come back, at most; it doubles with each further try. 1,000. */
  retry?: number;
  /** Before any try. 30,000. */
  longest?: number;
  /** Between two questions for the state while the stream is held back. 3,000. */
  poll?: number;
  /** Until the stream is tried again meanwhile. 60,000. */
  probe?: number;
};

/** What a job has become: a snapshot, and what later records add to it. */
export interface JobState extends Partial<Snapshot> {
  readonly level?: Level;
  /** Which poll of how many. */
  readonly attempt?: number;
  readonly of?: number;
  /** The relay does not know the job, or no more. */
  readonly gone?: boolean;
}

/** What a job has become, now that *record* is part of its story. A job begins as `{}` or as a snapshot. */
export function evolve(job: JobState, record: RelayRecord): JobState;

/** Where a job stands now. This and the next two reject with an Error that says why not, with `status` if there is one. */
export function show(job: string): Promise<Snapshot>;

/** Call a job off. */
export function cancel(job: string): Promise<Snapshot>;

/**
 * Follow a task that exists, or submit one, which may cost money: a call that is made again with the same *key* is never
 * a second submission.
 */
export function create(
  job: { upstream: string; task: string } | { upstream: string; input: Record<string, unknown> },
  key?: string | null,
): Promise<Snapshot>;

/**
 * `<relay-progress job="job_..." label="..." cancellable>`: one job's progress, status, text and results. It dispatches
 * `change`, with the state as `detail`. Parts: label, status, bar, percent, text, results, cancel.
 */
export class RelayProgress extends HTMLElement {
  state: JobState;
}

declare global {
  interface HTMLElementTagNameMap {
    "relay-progress": RelayProgress;
  }
}
