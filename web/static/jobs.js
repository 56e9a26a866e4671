/** The list of jobs: one card each, the newest first. */

import { Card } from "./card.js";
import { $ } from "./dom.js";
import { evolve } from "./relay.js";

/** How many ended jobs stay in the page. Running jobs always stay. */
export const KEPT_ENDED = 500;

const CARDS_A_FRAME = 100;

export class Jobs {
  #list = $("jobs");
  #cards = new Map();
  #changed = new Set();
  #forgotten = 0;
  #known = new Set();

  /**
   * @param {() => void} wake requests a `flush` soon
   * @param {(job: string) => string} colour returns the class of a job's colour
   * @param {(job: string) => void} onFocus receives the job that the log is to show, or "" for all
   */
  constructor(wake, colour, onFocus) {
    this.wake = wake;
    this.colour = colour;
    this.onFocus = onFocus;
    $("show").addEventListener("change", () => {
      for (const card of this.#cards.values()) card.root.hidden = !shown(card.state);
      this.wake();
    });
  }

  /** Apply a record. Returns the state of the job before and after it. */
  hear(record) {
    const card = this.#cards.get(record.job) ?? this.#add(record.job);
    const before = card.state;
    card.state = evolve(before.gone ? {} : before, record);
    this.#touch(card);
    return [before, card.state];
  }

  /** Records are missing. What comes next counts, also where it is behind what is shown: that may be lost. */
  doubt() {
    for (const card of this.#cards.values()) card.state = { ...card.state, seq: 0 };
  }

  /**
   * Apply a snapshot of all jobs, which replaces records that are not kept. A job that is not in it is unknown by now. A
   * snapshot of many jobs comes in parts; *more*: this part is not the first.
   */
  restore(snapshots, more) {
    const known = this.#known;
    if (!more) known.clear();
    for (const { job } of snapshots) known.add(job);
    for (const snapshot of snapshots) {
      const card = this.#cards.get(snapshot.job) ?? this.#add(snapshot.job);
      const { seq = 0, terminal: end } = card.state;
      // A snapshot only names the end, whose results the page may have.
      const terminal = end?.type === snapshot.terminal ? end : snapshot.terminal;
      if (snapshot.seq >= seq) card.state = { ...card.state, ...snapshot, terminal, gone: false };
      this.#touch(card);
    }
    for (const card of this.#cards.values()) {
      if (known.has(card.id) || card.state.terminal) continue;
      card.state = { ...card.state, status: "unknown", text: "The relay no longer knows this job.", gone: true };
      this.#touch(card);
    }
  }

  /** The state of a job, as far as the page has received it. */
  state(job) {
    return this.#cards.get(job)?.state ?? {};
  }

  /** Mark the card of the job that the log shows alone, or none. */
  focus(job) {
    for (const card of this.#cards.values()) card.focused = card.id === job;
  }

  /** Draw the changes, a bounded part of them in each frame. */
  flush() {
    let left = CARDS_A_FRAME;
    for (const card of this.#changed) {
      if (!left--) {
        this.wake();
        break;
      }
      this.#changed.delete(card);
      card.draw();
      card.root.hidden = !shown(card.state);
    }
    this.#trim();
    const states = [...this.#cards.values()].map((card) => card.state);
    $("empty").hidden = states.length > 0;
    $("none-shown").hidden = states.length === 0 || states.some(shown);
    $("counts").textContent = counted(states);
    document.title = titled(states);
  }

  #add(id) {
    const card = new Card(id, this.colour(id), (job) => this.onFocus(job));
    this.#cards.set(id, card);
    this.#list.prepend(card.root);
    return card;
  }

  #touch(card) {
    this.#changed.add(card);
    this.wake();
  }

  #trim() {
    let surplus = this.#cards.size - KEPT_ENDED;
    if (surplus <= 0) return;
    const ended = [...this.#cards.values()].filter((card) => over(card.state));
    for (const card of ended.slice(0, Math.max(0, ended.length - KEPT_ENDED))) {
      this.#cards.delete(card.id);
      card.root.remove();
      this.#forgotten += 1;
    }
    $("forgotten").hidden = !this.#forgotten;
    $("forgotten").textContent = `${this.#forgotten.toLocaleString()} older jobs are no longer shown here.`;
  }
}

const over = (state) => Boolean(state.terminal ?? state.gone);

function shown(state) {
  const wanted = $("show").value;
  return wanted === "all" || (wanted === "ended") === over(state);
}

/** The number of jobs in each state, in words. */
function counted(states) {
  if (!states.length) return "";
  const numbers = new Map();
  for (const { status } of states) numbers.set(status, (numbers.get(status) ?? 0) + 1);
  return [...numbers].map(([status, number]) => `${number.toLocaleString()} ${status}`).join(", ");
}

function titled(states) {
  const busy = states.filter((state) => !over(state));
  const percents = busy.map((state) => state.percent).filter((percent) => percent !== null);
  if (!busy.length) return states.length ? "All ended - Progress relay" : "Progress relay";
  if (busy.length === 1 && percents.length === 1) return `${percents[0]}% - Progress relay`;
  return `${busy.length} running - Progress relay`;
}
