/** Small helpers for building what is shown. Text from outside only ever becomes text, never markup. */

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

/** Set the text of *node*, leaving the page alone where it is that already. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Let the `<time>` *node* show *at*: the time of day, and with *dated* the date to who asks for it. */
export function setTime(node, at, { dated = false } = {}) {
  if (!at || node.dateTime === at) return;
  const date = new Date(at);
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

/** What tells the class of a job's own colour. By order of appearance: jobs side by side then differ. */
export function colours() {
  const places = new Map();
  return (job) => {
    if (!places.has(job)) places.set(job, places.size);
    return `hue-${places.get(job) % HUES}`;
  };
}

/** How a job is called where its whole id would be tedious to hear. */
export function spoken(job) {
  return job.length <= 8 ? `Job ${job}` : `Job ending in ${job.slice(-4)}`;
}

/**
 * Do *work* once for all that happens until the next frame. A tab that nobody looks at gets no frames, but its title
 * is seen all the same: there it is done once a second.
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
