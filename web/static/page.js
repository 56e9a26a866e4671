/** The page: one stream, and the parts that show it. */

import { deny, how, rights, watched } from "./access.js";
import { Announcer } from "./announcer.js";
import { $, colours, eachFrame, setText } from "./dom.js";
import { Form } from "./form.js";
import { Jobs } from "./jobs.js";
import { FORGOTTEN, Log } from "./log.js";
import { RelayStream } from "./relay.js";
import { Sinks } from "./sinks.js";

const CONNECTION = {
  connecting: "Connecting",
  live: "Live",
  busy: "The relay is busy; trying again",
  closing: "The relay is restarting; waiting for it",
  lost: "Connection lost; trying again",
  polling: "The network holds the stream back; asking every few seconds",
  ended: "Ended",
  denied: "No access",
};

const LOGIN = "A login on the way to the relay has expired; reload this page";

const wake = eachFrame(() => {
  log.flush();
  jobs.flush();
});
const colour = colours();
const log = new Log(wake, colour, () => stream.position);
const jobs = new Jobs(wake, colour, showOnly);
const announcer = new Announcer();
const form = new Form();
const progress = document.createElement("relay-progress");
let only = "";
let refused = {};

/** Let the log show one job alone, under its progress, or all with "". */
function showOnly(job) {
  only = job;
  $("only").hidden = job === "";
  if (job === "") progress.remove();
  else $("only").after(progress);
  progress.setAttribute("label", job);
  progress.state = jobs.state(job);
  setText($("only-job"), job);
  jobs.focus(job);
  log.filter({ job });
}

function hearRecord(record) {
  const [before, now] = jobs.hear(record);
  log.hear(record);
  if (record.job === only) progress.state = now;
  announcer.hear(before, now);
  form.offer(now.upstream);
}

function hearNotice(notice) {
  switch (notice.type) {
    case "snapshot":
      jobs.restore(notice.jobs, notice.more);
      if (only) progress.state = jobs.state(only);
      if (notice.polled) return;
      return log.empty ? log.recall() : notice.more || log.note(FORGOTTEN);
    case "gap":
      jobs.doubt();
      return log.note(missing(notice.missed));
    case "skipped":
      return log.note(`${count(notice.missed)} skipped here, because this page did not take them in time`);
    case "expiring":
      return log.note(`This access ends at ${new Date(notice.expires).toLocaleTimeString()}`);
    case "refused":
      return (refused = notice);
    case "exchange":
      return log.note(`${notice.method} ${notice.url}: ${notice.status ?? "no answer"}, ${notice.seconds.toFixed(2)} s`);
  }
}

function missing(number) {
  if (number == null) return "Records are missing here: the relay was started anew, or keeps them no longer";
  return `${count(number)} missing here: the relay keeps them no longer`;
}

function count(number) {
  return number === 1 ? "1 record is" : `${number.toLocaleString()} records are`;
}

// Raw exchanges are sent only if the operator allows them, and only to a page with `?debug=1`.
const asked = new URLSearchParams(location.search);
const sinks = new Sinks(asked.has("sinks"));
const stream = new RelayStream({ jobs: watched ? [watched] : null, debug: asked.get("debug") === "1", ...how });
stream.addEventListener("record", ({ detail }) => hearRecord(detail));
stream.addEventListener("notice", ({ detail }) => hearNotice(detail));
stream.addEventListener("state", ({ detail }) => {
  $("connection").dataset.state = detail;
  setText($("connection"), refused.redirected && detail === "lost" ? LOGIN : CONNECTION[detail]);
  if (detail === "live") refused = {};
  if (detail === "denied") deny(refused.status);
  sinks.live = detail === "live";
});

$("level").addEventListener("change", () => log.filter({ level: $("level").value }));
$("show-all").addEventListener("click", () => {
  showOnly("");
  $("lines").focus();
});

stream.open();
rights().then((may) => (sinks.allowed = may.has("operate")));
