/** One job's card. */

import { how } from "./access.js";
import { $, element, setText, setTime } from "./dom.js";
import { cancel } from "./relay.js";

export class Card {
  /** The state of the job; `draw` shows it. */
  state = { percent: null, status: "queued" };

  constructor(id, colour, onFocus) {
    this.id = id;
    this.root = $("job").content.firstElementChild.cloneNode(true);
    this.root.classList.add(colour);
    this.root.dataset.job = id;
    this.root.setAttribute("aria-label", `Job ${id}`);
    this.parts = Object.fromEntries(
      [...this.root.querySelectorAll("[class], progress")].map((part) => [part.className || part.localName, part]),
    );
    const { progress, focus, cancel } = this.parts;
    setText(this.parts.id, id);
    progress.setAttribute("aria-label", `Progress of job ${id}`);
    focus.setAttribute("aria-label", `Filter log: only job ${id}`);
    cancel.setAttribute("aria-label", `Cancel job ${id}`);
    focus.addEventListener("click", () => onFocus(this.focused ? "" : id));
    cancel.addEventListener("click", () => this.#cancel());
  }

  get focused() {
    return this.parts.focus.getAttribute("aria-pressed") === "true";
  }

  set focused(yes) {
    this.parts.focus.setAttribute("aria-pressed", String(yes));
  }

  /** Show the present state. */
  draw() {
    const { state, parts } = this;
    this.root.dataset.status = state.status;
    this.root.dataset.level = state.level ?? "info";
    setText(parts.status, state.status);
    setText(parts.text.firstElementChild, state.text ?? "");
    setText(parts.upstream, state.upstream ?? "");
    setText(parts.task, state.task ?? "none yet");
    setText(parts.poll, state.attempt ? `${state.attempt} of ${state.of}` : "");
    parts.poll.parentElement.hidden = !state.attempt;
    setTime(parts.started, state.started, { dated: true });
    setTime(parts.updated, state.updated);
    this.#drawProgress();
    this.#drawResults();
    if (state.terminal || state.gone) this.#end();
  }

  #drawProgress() {
    const { state, parts } = this;
    const ended = state.terminal || state.gone;
    // A job that has ended without a result never shows a full bar.
    const most = ended && state.status !== "succeeded" ? 99 : 100;
    const known = state.percent === null ? (ended ? 0 : null) : Math.min(state.percent, most);
    if (known === null) parts.progress.removeAttribute("value");
    else parts.progress.value = known;
    setText(parts.percent, state.percent === null ? "" : `${state.percent}%`);
  }

  #drawResults() {
    const { urls = [], media_types: types = [], expires, result = null } = this.state.terminal ?? {};
    const { results } = this.parts;
    if ((!urls.length && result === null) || results.childElementCount) return;
    results.append(...urls.map((url, index) => this.#result(url, index, types[index])));
    if (result !== null) results.append(valueOf(result));
    if (expires) {
      const until = element("li", "quiet", "The links work until ");
      const at = element("time", "", new Date(expires).toLocaleString());
      at.dateTime = expires;
      until.append(at);
      results.append(until);
    }
    results.hidden = false;
  }

  #result(url, index, type) {
    const item = element("li");
    const name = `Result ${index + 1}${type ? ` (${type})` : ""}`;
    if (isWebAddress(url)) {
      const link = element("a", "", name);
      Object.assign(link, { href: url, target: "_blank", rel: "noopener noreferrer" });
      link.setAttribute("aria-label", `${name} of job ${this.id}, opens in a new tab`);
      item.append(link);
    } else {
      item.append(`${name}, not a web address: `, element("bdi", "", url));
    }
    return item;
  }

  async #cancel() {
    const button = this.parts.cancel;
    setText(this.parts.trouble, "");
    // Not `disabled`: the keyboard focus would be lost.
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    try {
      await cancel(this.id, how);
    } catch (error) {
      setText(this.parts.trouble, `Not cancelled: ${error.message}`);
    } finally {
      button.ariaDisabled = "false";
    }
  }

  #end() {
    const { cancel, trouble } = this.parts;
    if (document.activeElement === cancel) this.root.focus({ preventScroll: true });
    cancel.hidden = true;
    setText(trouble, "");
  }
}

/** A result that is no file, always as text. */
function valueOf(result) {
  const item = element("li", "value");
  item.append(element("pre", "", typeof result === "string" ? result : JSON.stringify(result, null, 2)));
  return item;
}

/** Whether *url* may become a link: an upstream's `javascript:` or `data:` must not. */
function isWebAddress(url) {
  try {
    return ["http:", "https:"].includes(new URL(url).protocol);
  } catch {
    return false;
  }
}
