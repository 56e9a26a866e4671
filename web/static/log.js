/** The log: the text of every record, one line each. */

import { $, element, setText, time } from "./dom.js";
import { history } from "./history.js";

/** How many lines are kept in the page; the relay's journal keeps more. */
export const KEPT_LINES = 2_000;

const LINES_A_FRAME = 250;

const LEVELS = ["debug", "info", "warning", "error"];
const TERMINALS = new Set(["done", "failed", "cancelled"]);
const NEAR = 24;

/** The first line of a log whose past is not kept whole. */
export const FORGOTTEN = "What was said before is no longer kept. Each job is shown as it stands.";

export class Log {
  #view = $("lines");
  #list = $("lines").querySelector("ol");
  #newest = $("newest");
  #waiting = [];
  #dropped = 0;
  #atEnd = true;
  #top = 0;
  #job = "";
  #level = "debug";
  #recalling = null;
  #stale = false;

  /**
   * @param {() => void} wake requests a `flush` soon
   * @param {(job: string) => string} colour returns the class of a job's colour
   * @param {() => string} position returns the position up to which the page has received the records
   */
  constructor(wake, colour, position) {
    this.wake = wake;
    this.colour = colour;
    this.position = position;
    this.#view.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#newest.addEventListener("click", () => this.#toEnd());
    // Observed, because reading the height right after a change forces a layout at once.
    const resized = new ResizeObserver(() => this.#atEnd && this.#toEnd());
    resized.observe(this.#view);
    resized.observe(this.#list);
    this.#follow(true);
  }

  /** Add a record; it is shown with the next `flush`, if it passes the filter. */
  hear(record) {
    if (this.#wants(record)) this.#wait(() => recordLine(record, this.colour(record.job)));
  }

  /** Add a line about the stream itself, which is no record. */
  note(text) {
    this.#wait(() => element("li", "note", text));
  }

  /** Show only the lines of *job* ("" for all) of at least *level*. Terminal records are shown at every level. */
  filter({ job = this.#job, level = this.#level }) {
    this.#job = job;
    this.#level = level;
    this.recall();
  }

  /** Whether there is no line yet, shown or waiting. */
  get empty() {
    return !this.#list.childElementCount && !this.#waiting.length;
  }

  /** Start again with the records that the journal keeps for this filter: the page keeps fewer. */
  recall() {
    this.#recalling?.abort();
    this.#recalling = null;
    this.#stale = true;
    this.#list.replaceChildren();
    setText($("quiet"), "Reading what the relay keeps.");
    $("quiet").hidden = false;
    this.#toEnd();
    this.wake();
  }

  /** Add the new lines to the page, a bounded part of them in each frame, and remove the oldest lines. */
  flush() {
    if (this.#stale) this.#read();
    if (!this.#waiting.length || this.#recalling) return;
    this.#drop(this.#waiting.length - KEPT_LINES);
    this.#list.append(...this.#waiting.splice(0, LINES_A_FRAME).map((make) => make()));
    this.#trim();
    $("quiet").hidden = true;
    if (!this.#atEnd) this.#newest.hidden = false;
    if (this.#waiting.length) this.wake();
  }

  /** Read up to the position of the page, so that later records follow without hole or repetition. */
  async #read() {
    const { signal } = (this.#recalling = new AbortController());
    const filter = { job: this.#job, level: this.#level };
    this.#stale = false;
    this.#waiting = [];
    this.#dropped = 0;
    try {
      const { records, older, whole } = await history(filter, this.position(), KEPT_LINES, signal);
      const lines = records.map((record) => () => recordLine(record, this.colour(record.job)));
      if (!whole) lines.unshift(() => element("li", "note", FORGOTTEN));
      this.#waiting.unshift(...lines);
      this.#dropped += older;
    } catch ({ message }) {
      if (signal.aborted) return;
      this.#waiting.unshift(() => element("li", "note", `Earlier lines cannot be shown: ${message}`));
    }
    this.#recalling = null;
    setText($("quiet"), "No line matches.");
    this.#count();
    this.wake();
  }

  #wants({ job, level, type }) {
    const matters = LEVELS.indexOf(level) >= LEVELS.indexOf(this.#level) || TERMINALS.has(type);
    return matters && (this.#job === "" || job === this.#job);
  }

  #wait(make) {
    this.#waiting.push(make);
    if (this.#waiting.length > 2 * KEPT_LINES) this.#drop(KEPT_LINES);
    this.wake();
  }

  #drop(surplus) {
    if (surplus > 0) this.#dropped += this.#waiting.splice(0, surplus).length;
  }

  #trim() {
    for (let surplus = this.#list.childElementCount - KEPT_LINES; surplus > 0; surplus--) {
      this.#list.firstElementChild.remove();
      this.#dropped += 1;
    }
    this.#count();
  }

  #count() {
    $("trimmed").hidden = !this.#dropped;
    if (this.#dropped) setText($("trimmed"), `${this.#dropped.toLocaleString()} earlier lines are no longer shown here`);
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#view;
    // Only a reader that scrolls back leaves the end: it also moves away by itself, when the window changes its shape.
    const near = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#follow(near || (this.#atEnd && scrollTop >= this.#top));
    this.#top = scrollTop;
    if (this.#atEnd) this.#newest.hidden = true;
  }

  #toEnd() {
    // A button that hides itself must not lose the keyboard focus.
    if (document.activeElement === this.#newest) this.#view.focus();
    this.#view.scrollTop = this.#view.scrollHeight;
    this.#follow(true);
    this.#newest.hidden = true;
  }

  /**
   * At the end the browser must not anchor the lines in view: once the log is full, each new line removes an old one, the
   * height stays, and the view would move back with the old lines instead of showing the new ones.
   */
  #follow(yes) {
    this.#atEnd = yes;
    this.#view.classList.toggle("following", yes);
  }
}

function recordLine({ job, seq, at, type, level, text }, colour) {
  const line = element("li", `line ${colour} ${level}`);
  Object.assign(line.dataset, { job, seq, level, type });
  if (TERMINALS.has(type)) line.classList.add("end");
  line.append(time(at), " ", element("bdi", "job", job), " ", element("span", "seq", String(seq)), " ");
  const said = element("span", "said");
  if (level === "warning" || level === "error") said.append(element("strong", "level", level), " ");
  said.append(element("bdi", "text", text));
  line.append(said);
  return line;
}
