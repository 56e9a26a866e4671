/** The log: every record's text, word for word, one line each. */

import { $, element, time } from "./dom.js";

/** How many lines are kept in the page; the relay's journal keeps more. */
export const KEPT_LINES = 2_000;

const LINES_A_FRAME = 250;

const LEVELS = ["debug", "info", "warning", "error"];
const TERMINALS = new Set(["done", "failed", "cancelled"]);
const NEAR = 24;

export class Log {
  #view = $("lines");
  #list = $("lines").querySelector("ol");
  #newest = $("newest");
  #waiting = [];
  #dropped = 0;
  #atEnd = true;
  #top = 0;
  #job = "";
  #level = 0;

  /**
   * @param {() => void} wake asks for a `flush` soon
   * @param {(job: string) => string} colour tells the class of a job's colour
   */
  constructor(wake, colour) {
    this.wake = wake;
    this.colour = colour;
    this.#view.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#newest.addEventListener("click", () => this.#toEnd());
    // Observed, because asking for the height right after a change makes the browser lay everything out at once.
    const resized = new ResizeObserver(() => this.#atEnd && this.#toEnd());
    resized.observe(this.#view);
    resized.observe(this.#list);
  }

  /** Take a record; it is shown with the next `flush`. */
  hear(record) {
    this.#wait(() => recordLine(record, this.colour(record.job)));
  }

  /** Take a line that is no record, about the stream itself. */
  note(text) {
    this.#wait(() => element("li", "note", text));
  }

  /** Show only the lines of *job* ("" for all) of at least *level*. What ends a job is shown at every level. */
  filter({ job = this.#job, level = LEVELS[this.#level] }) {
    this.#job = job;
    this.#level = LEVELS.indexOf(level);
    for (const line of this.#list.children) this.#judge(line);
    this.#toEnd();
  }

  /** Put what has come into the page, a bounded part of it in each frame, and take out what is too old. */
  flush() {
    if (!this.#waiting.length) return;
    this.#drop(this.#waiting.length - KEPT_LINES);
    const lines = this.#waiting.splice(0, LINES_A_FRAME).map((make) => make());
    for (const line of lines) this.#judge(line);
    this.#list.append(...lines);
    this.#trim();
    $("quiet").hidden = true;
    if (!this.#atEnd) this.#newest.hidden = false;
    if (this.#waiting.length) this.wake();
  }

  #wait(make) {
    this.#waiting.push(make);
    if (this.#waiting.length > 2 * KEPT_LINES) this.#drop(KEPT_LINES);
    this.wake();
  }

  #drop(surplus) {
    if (surplus > 0) this.#dropped += this.#waiting.splice(0, surplus).length;
  }

  #judge(line) {
    const { job, level, type } = line.dataset;
    if (!job) return;
    const wanted = LEVELS.indexOf(level) >= this.#level || TERMINALS.has(type);
    line.hidden = !wanted || (this.#job !== "" && job !== this.#job);
  }

  #trim() {
    for (let surplus = this.#list.childElementCount - KEPT_LINES; surplus > 0; surplus--) {
      this.#list.firstElementChild.remove();
      this.#dropped += 1;
    }
    if (!this.#dropped) return;
    $("trimmed").hidden = false;
    $("trimmed").textContent = `${this.#dropped.toLocaleString()} earlier lines are no longer shown here`;
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#view;
    // Only who scrolls back leaves the end: it also moves away by itself, when the window changes its shape.
    const near = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#atEnd = near || (this.#atEnd && scrollTop >= this.#top);
    this.#top = scrollTop;
    if (this.#atEnd) this.#newest.hidden = true;
  }

  #toEnd() {
    // A button that hides itself must not take the keyboard's place in the page with it.
    if (document.activeElement === this.#newest) this.#view.focus();
    this.#view.scrollTop = this.#view.scrollHeight;
    this.#atEnd = true;
    this.#newest.hidden = true;
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
