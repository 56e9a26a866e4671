// What a connection proves itself with: cookies, or a token or ticket of a tab. Functions cannot cross to a worker, so a
// tab is asked each time, and nothing is kept but the text in use.

/** In place of a credential: there is none, or only the one that was refused. */
export const NONE = Symbol("none");

const PATIENCE = 30_000;

export class Credential {
  /** "token", "ticket", or "" for cookies. */
  asks = "";
  #tabs = new Map();
  #asked = 0;
  #pending = new Map();
  #text = "";
  // The jobs that a ticket is for, whether it was used before, and the status by which the relay refused a credential.
  #named = "";
  #used = false;
  #refusal = 0;

  join(id, asks, send) {
    this.asks = asks;
    this.#tabs.set(id, send);
  }

  leave(id) {
    this.#tabs.delete(id);
    for (const { of, resolve } of this.#pending.values()) if (of === id) resolve();
  }

  answer(id, ask, credential) {
    const pending = this.#pending.get(ask);
    if (pending?.of === id) pending.resolve(credential);
  }

  // `{token}`, `{ticket}`, `{}` for cookies, or NONE. With *fresh* not the one in use. Rejects if no tab answers.
  async get(jobs, signal, { fresh = false, cookies = false } = {}) {
    if (!this.asks) return {};
    const [named, another] = [JSON.stringify(jobs), fresh || this.#refusal > 0];
    // A ticket is good for one use, and for more with the cookie that the first one brought.
    this.#used = this.asks === "ticket" && cookies && !another && this.#text !== "" && this.#named === named;
    if (!this.#used) {
      const text = await this.#ask({ jobs, fresh: another }, signal);
      if (!text || (another && text === this.#text)) return NONE;
      this.#text = text;
      this.#named = named;
    }
    return { [this.asks]: this.#text };
  }

  get refusal() {
    return this.#refusal || 401;
  }

  accepted() {
    this.#refusal = 0;
  }

  // Returns whether another one is worth an attempt.
  refused(status) {
    const first = this.asks !== "" && !this.#refusal;
    this.#refusal = status;
    return first;
  }

  // The relay has nothing to say to this one. Returns whether another one is worth an attempt.
  spent() {
    if (this.asks === "ticket") this.#text = "";
    return this.#used;
  }

  async #ask(how, signal) {
    for (const [of, send] of [...this.#tabs]) {
      const ask = ++this.#asked;
      const text = await new Promise((resolve) => {
        this.#pending.set(ask, { of, resolve });
        // A tab that is frozen does not answer.
        setTimeout(resolve, PATIENCE);
        signal.addEventListener("abort", () => resolve());
        send({ ask, ...how });
      });
      this.#pending.delete(ask);
      signal.throwIfAborted();
      if (text !== undefined) return text;
    }
    throw new Error("no tab has a credential");
  }
}
