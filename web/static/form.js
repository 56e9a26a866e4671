/** The form for a new job: submit a prompt, or follow an existing task. */

import { how } from "./access.js";
import { $, element } from "./dom.js";
import { create } from "./relay.js";

export class Form {
  #form = $("new-job");
  #key = null;
  #upstreams = new Set();

  constructor() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#form.addEventListener("input", () => this.#edited());
    this.#edited();
  }

  /** Offer the name of an upstream that is in use. */
  offer(upstream) {
    if (!upstream || this.#upstreams.has(upstream)) return;
    this.#upstreams.add(upstream);
    const option = element("option");
    option.value = upstream;
    $("upstreams").append(option);
    if (this.#upstreams.size === 1 && !$("upstream").value) $("upstream").value = upstream;
  }

  /** Different content is a different job; the same content sent again, after a lost response, is the same job. */
  #edited() {
    this.#key = null;
    const following = this.#form.elements.kind.value === "task";
    $("prompt-row").hidden = $("prompt").disabled = following;
    $("task-row").hidden = $("task").disabled = !following;
  }

  async #send() {
    const button = this.#form.querySelector("button");
    if (button.ariaDisabled === "true") return;
    button.ariaDisabled = "true";
    $("answer").textContent = "Sending";
    const { kind, upstream, prompt, task } = this.#form.elements;
    try {
      const following = kind.value === "task";
      this.#key ??= following ? null : newKey();
      const what = following ? { task: task.value.trim() } : { input: { prompt: prompt.value } };
      const { job } = await create({ upstream: upstream.value.trim(), ...what }, this.#key, how);
      this.#key = null;
      (following ? task : prompt).value = "";
      $("answer").textContent = `Started ${job}`;
    } catch (error) {
      $("answer").textContent = `Not started: ${error.message}`;
    } finally {
      button.ariaDisabled = "false";
    }
  }
}

/** Not `crypto.randomUUID`: a page that is served neither over HTTPS nor from this machine has none. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
