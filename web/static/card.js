/** One job's card. */

import { $, element, setText, setTime } from "./dom.js";
import { cancel } from "./relay.js";

export class Card {
  /** What the job has become; `draw` shows it. */
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

  /** Show the state as it is now. */
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
    const known = state.percent ?? (state.terminal || state.gone ? 0 : null);
    if (known === null) parts.progress.removeAttribute("value");
    else parts.progress.value = known;
    setText(parts.percent, state.percent === null ? "" : `${state.percent}%`);
  }

  #drawResults() {
    const { urls = [], media_types: types = [], expires } = this.state.terminal ?? {};
    const { results } = this.parts;
    if (!urls.length || results.childElementCount) return;
    results.append(...urls.map((url, index) => this.#result(url, index, types[index])));
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
    // Not `disabled`: that would take the keyboard's place in the page away.
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    try {
      await cancel(this.id);
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

/** Whether *url* may become a link: an upstream's `javascript:` or `data:` must not. */
function isWebAddress(url) {
  try {
    return ["http:", "https:"].includes(new URL(url).protocol);
  } catch {
    return false;
  }
}
