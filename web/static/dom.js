/** Small helpers that build elements. Text from outside becomes text, never markup. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const calendar = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

const HUES = 8;

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

/** A new element with a class and a text. */
export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  return made;
}

/** Set the text of *node*, unless it has that text already. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Let the `<time>` *node* show *at*: the time of day, and with *dated* the date on hover. */
export function setTime(node, at, { dated = false } = {}) {
  const date = new Date(at ?? NaN);
  if (Number.isNaN(date.getTime()) || node.dateTime === at) return;
  node.dateTime = at;
  node.textContent = clock.format(date);
  if (dated) node.title = calendar.format(date);
}

/** A `<time>` for *at*, cheap enough for every line of a log. */
export function time(at) {
  const made = element("time", "", clock.format(new Date(at)));
  made.dateTime = at;
  return made;
}

/** Returns the class of a job's own colour, by order of appearance, so that neighbouring jobs differ. */
export function colours() {
  const places = new Map();
  return (job) => {
    if (!places.has(job)) places.set(job, places.size);
    return `hue-${places.get(job) % HUES}`;
  };
}

/** A short name of a job, for a screen reader. */
export function spoken(job) {
  return job.length <= 8 ? `Job ${job}` : `Job ending in ${job.slice(-4)}`;
}

/**
 * Do *work* once for everything that happens until the next frame. A hidden tab has no frames, but its title is
 * visible: there the work is done once a second.
 */
export function eachFrame(work) {
  let frame = 0;
  let timer = 0;
  const run = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    frame = timer = 0;
    work();
  };
  const ask = () => {
    if (!frame && !document.hidden) frame = requestAnimationFrame(run);
    timer ||= setTimeout(run, 1_000);
  };
  document.addEventListener("visibilitychange", () => timer && ask());
  return ask;
}
