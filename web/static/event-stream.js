// Event streams, read; and what a relay sends in them.

export const LEVELS = ["debug", "info", "warning", "error"];

// [spec] WHATWG HTML, 9.2.6
export class Parser {
  retry = null;
  commented = false;
  #decoder = new TextDecoder();
  #rest = "";
  #halved = false;
  #id = "";
  #type = "";
  #data = [];

  push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return [];
    if (this.#halved && text[0] === "\n") text = text.slice(1);
    this.#halved = text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter(Boolean);
  }

  #line(line) {
    if (!line) return this.#block();
    const [, name, value = ""] = /^([^:]*):? ?(.*)/s.exec(line);
    if (!name) this.commented = true;
    if (name === "event") this.#type = value;
    if (name === "data") this.#data.push(value);
    if (name === "id" && !value.includes("\0")) this.#id = value;
    if (name === "retry" && /^\d+$/.test(value)) this.retry = +value;
  }

  #block() {
    const block = this.#data.length && { type: this.#type || "message", id: this.#id, data: this.#data.join("\n") };
    this.#type = "";
    this.#data = [];
    return block;
  }
}

const isText = (value) => typeof value === "string";
const isFigure = (value) => value == null || Number.isFinite(value);
const isTime = (value) => isText(value) && !Number.isNaN(Date.parse(value));
const isJob = (one) => isText(one?.job) && Number.isSafeInteger(one.seq) && isFigure(one.percent);

// The fields that each notice must have, since pages rely on them.
const NOTICES = {
  snapshot: ({ jobs }) => Array.isArray(jobs) && jobs.every(isJob),
  gap: ({ from, to, missed }) => isText(from) && isText(to) && isFigure(missed),
  skipped: ({ missed }) => Number.isFinite(missed),
  gone: ({ job }) => isText(job),
  busy: () => true,
  bye: () => true,
  expiring: ({ expires }) => isTime(expires),
  denied: () => true,
  heartbeat: () => true,
  exchange: ({ seconds }) => Number.isFinite(seconds),
};

// A block as it is passed on; nothing for a block that is neither a record nor a notice.
export function read({ type, id, data: text }) {
  let data = null;
  try {
    data = JSON.parse(text);
  } catch {}
  if (data?.constructor !== Object) return null;
  const { at, text: words, level, urls = [] } = data;
  const whole = data.seq
    ? isJob(data) && isTime(at) && isText(words) && LEVELS.includes(level) && Array.isArray(urls) && urls.every(isText)
    : Object.hasOwn(NOTICES, type) && NOTICES[type](data);
  return whole && { type, id, data };
}

