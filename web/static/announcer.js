/** The text for screen readers: changes of state and the ends of jobs, and never every poll. */

import { $, spoken } from "./dom.js";

const PAUSE = 1_500;
const AT_MOST = 3;

export class Announcer {
  #news = new Map();
  #timer = 0;

  /** Receive a job's state before and after a record; of several changes of one job the last is announced. */
  hear(before, now) {
    if (now.terminal && !before.terminal) this.#say(now.job, now.text);
    else if (now.status !== before.status || before.seq === undefined) this.#say(now.job, now.status);
  }

  #say(job, text) {
    this.#news.set(job, text);
    this.#timer ||= setTimeout(() => this.#speak(), PAUSE);
  }

  #speak() {
    const news = [...this.#news];
    this.#news.clear();
    this.#timer = 0;
    $("announcer").textContent =
      news.length > AT_MOST
        ? `${news.length} jobs have changed: ${$("counts").textContent}`
        : news.map(([job, text]) => `${spoken(job)}: ${text}`).join(". ");
  }
}
