/** The sinks: a table that is there while one of them is in trouble, or with `?sinks` in the address. */

import { $, element } from "./dom.js";

const EVERY = 30_000;
const EVERY_IF_WANTED = 5_000;

const STATES = { closed: "works", open: "set aside", "half-open": "being tried" };

/** The figures of a sink, in the order of the columns of the table. */
const FIGURES = ["delivered", "waiting", "lag", "coalesced", "dropped", "failed"];

export class Sinks {
  #wanted;
  #timer = 0;
  #live = false;
  #allowed = false;

  constructor(wanted) {
    this.#wanted = wanted;
  }

  /** Look now and then, while the relay answers. */
  set live(live) {
    this.#live = live;
    this.#begin();
  }

  /** Look only if the page may. */
  set allowed(allowed) {
    this.#allowed = allowed;
    this.#begin();
  }

  #begin() {
    clearTimeout(this.#timer);
    if (this.#live && this.#allowed) this.#look();
  }

  async #look() {
    try {
      const response = await fetch(new URL("../v1/sinks", import.meta.url));
      if (response.ok) this.#show((await response.json()).sinks);
    } catch {
      // The connection says already that the relay does not answer.
    }
    clearTimeout(this.#timer);
    if (this.#live) this.#timer = setTimeout(() => this.#look(), this.#wanted ? EVERY_IF_WANTED : EVERY);
  }

  #show(sinks) {
    $("sinks").hidden = !(this.#wanted || sinks.some(inTrouble));
    $("sink-rows").replaceChildren(...sinks.map(row));
  }
}

function inTrouble({ state, dropped, failed }) {
  return state !== "closed" || dropped > 0 || failed > 0;
}

function row(sink) {
  const made = element("tr", inTrouble(sink) ? "bad" : "");
  const name = element("th");
  name.scope = "row";
  name.append(element("bdi", "", sink.name));
  made.append(name, element("td", "", STATES[sink.state] ?? sink.state));
  for (const figure of FIGURES) made.append(element("td", "number", sink[figure].toLocaleString()));
  return made;
}
