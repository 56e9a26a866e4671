/** One job's progress as an element: `<relay-progress job="job_...">`. It is loaded and defined by relay.js. */

import { RelayStream, cancel, evolve, show } from "./relay.js";

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
  :host { display: grid; grid-template-columns: 1fr auto; gap: 0.25em 1em; align-items: center }
  :host([hidden]), [hidden] { display: none }
  progress { width: 100%; accent-color: var(--relay-accent, auto) }
  [part=text], [part=results] { grid-column: 1 / -1; overflow-wrap: anywhere }
  [part=results] > * { margin-inline-end: 1em }
`);

const PARTS = {
  label: "bdi",
  status: "span",
  bar: "progress",
  percent: "span",
  text: "bdi",
  results: "div",
  cancel: "button",
};

export class RelayProgress extends HTMLElement {
  static observedAttributes = ["job", "label", "cancellable", "credentials"];
  #parts = {};
  #stream = null;
  #state = {};
  #proof = {};
  #trouble = "";

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    for (const [part, name] of Object.entries(PARTS)) {
      this.#parts[part] = root.appendChild(document.createElement(name));
      this.#parts[part].setAttribute("part", part);
    }
    const { status, bar, percent, cancel } = this.#parts;
    status.role = "status";
    bar.max = 100;
    percent.ariaHidden = "true";
    cancel.type = "button";
    cancel.textContent = "Cancel";
    cancel.onclick = () => this.#cancel();
  }

  get state() {
    return this.#state;
  }

  /** For a page that receives every record anyway: an element without `job` opens no stream, and shows the state that is set. */
  set state(state) {
    this.#state = state;
    this.#draw();
  }

  // Properties, since an attribute is there for every script and style sheet to read.
  set token(token) {
    this.#prove({ token });
  }

  set ticket(ticket) {
    this.#prove({ ticket });
  }

  set user(user) {
    this.#prove({ user });
  }

  connectedCallback() {
    // What was set before the element was defined hides the properties above.
    for (const name of ["token", "ticket", "user"].filter((name) => Object.hasOwn(this, name))) {
      const value = this[name];
      delete this[name];
      this.#proof[name] = value;
    }
    this.#follow();
  }

  disconnectedCallback() {
    this.#stream?.close();
    this.#stream = null;
  }

  attributeChangedCallback(name, before, now) {
    if (["job", "credentials"].includes(name) && before !== now && this.isConnected) this.#follow();
    else this.#draw();
  }

  get #how() {
    return { credentials: this.getAttribute("credentials") ?? undefined, ...this.#proof };
  }

  #prove(changed) {
    Object.assign(this.#proof, changed);
    if (this.isConnected) this.#follow();
  }

  #follow() {
    const job = this.getAttribute("job");
    this.#stream?.close();
    this.#state = {};
    this.#trouble = "";
    this.#draw();
    if (!job) return;
    const stream = (this.#stream = new RelayStream({ jobs: [job], level: "info", ...this.#how }));
    const become = (state) => {
      if (stream !== this.#stream) return;
      this.#state = state;
      this.#draw();
      this.dispatchEvent(new CustomEvent("change", { detail: state }));
    };
    const gone = () => {
      stream.close();
      become({ ...this.#state, status: "unknown", text: "The relay does not know this job.", gone: true });
    };
    stream.addEventListener("record", ({ detail }) => become(evolve(this.#state, detail)));
    stream.addEventListener("notice", ({ detail: { type, jobs } }) => {
      if (type === "gone") gone();
      // What was shown may be lost: what comes next counts, also where it is behind that.
      if (type === "gap") this.#state = { ...this.#state, seq: 0 };
      if (type === "snapshot" && jobs[0]) look();
    });
    stream.addEventListener("state", ({ detail }) => {
      if (stream !== this.#stream) return;
      this.#trouble = detail === "denied" ? "This page may not follow this job, or no longer." : "";
      this.toggleAttribute("denied", detail === "denied");
      this.#draw();
    });
    // Fetch the state at once: a stream of all jobs, which another tab may have opened, does not report an unknown job.
    const look = async () => {
      try {
        const state = await show(job, this.#how);
        if (!(state.seq < this.#state.seq)) become(state);
        if (state.terminal) stream.close();
      } catch ({ status }) {
        if (status === 404) gone();
      }
    };
    stream.open();
    look();
  }

  #draw() {
    const { label, status, bar, percent, text, results, cancel } = this.#parts;
    const { state } = this;
    const over = state.terminal || state.gone;
    const name = this.getAttribute("label") ?? this.getAttribute("job") ?? "";
    this.toggleAttribute("ended", Boolean(over));
    if (state.status) this.setAttribute("status", state.status);
    else this.removeAttribute("status");
    say(label, name);
    say(status, state.status ?? "connecting");
    bar.ariaLabel = `Progress of ${name}`;
    cancel.ariaLabel = `Cancel ${name}`;
    cancel.hidden = over || !this.hasAttribute("cancellable");
    // A job that has ended without a result never shows a full bar.
    const most = over && state.status !== "succeeded" ? 99 : 100;
    const known = state.percent == null ? (over ? 0 : null) : Math.min(state.percent, most);
    if (known === null) bar.removeAttribute("value");
    else bar.value = known;
    say(percent, state.percent == null ? "" : `${state.percent}%`);
    say(text, this.#trouble || (state.text ?? ""));
    const { urls = [], result: value = null } = state.terminal ?? {};
    if (urls.length + (value !== null) === results.childElementCount) return;
    results.replaceChildren(...urls.map(result), ...(value === null ? [] : [valueOf(value)]));
  }

  async #cancel() {
    this.#trouble = "";
    await cancel(this.getAttribute("job"), this.#how).catch(({ message }) => (this.#trouble = `Not cancelled: ${message}`));
    this.#draw();
  }
}

function result(url, index) {
  const link = document.createElement("a");
  link.textContent = `Result ${index + 1}`;
  // An upstream's `javascript:` must not become a link.
  if (/^https?:/i.test(url)) Object.assign(link, { href: url, target: "_blank", rel: "noopener noreferrer" });
  return link;
}

function valueOf(value) {
  const shown = document.createElement("bdi");
  shown.setAttribute("part", "value");
  shown.textContent = typeof value === "string" ? value : JSON.stringify(value);
  return shown;
}

/** Only changes are written: a screen reader announces every text that is set. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
