import { RelayStream, cancel, create, evolve, timing } from "../../../web/static/relay.js";
import type { Asked, JobState, State } from "../../../web/static/relay.js";

timing.heartbeat = 5_000;

const jobs = new Map<string, JobState>();
const stream = new RelayStream({ jobs: ["job_1"], level: "info" });
stream.addEventListener("record", ({ detail: record }) => {
  jobs.set(record.job, evolve(jobs.get(record.job) ?? {}, record));
  if (record.type === "done") console.log(record.urls.join(", "));
  else if (record.type === "progress" && record.percent !== null) console.log(record.percent.toFixed());
});
stream.addEventListener("notice", ({ detail: notice }) => {
  switch (notice.type) {
    case "gap":
      return console.log(notice.missed ?? "some");
    case "snapshot":
      return console.log(notice.jobs.map(({ job, percent }) => `${job} ${percent}`));
    case "refused":
      return console.log(notice.status, notice.redirected ?? false);
    case "expiring":
      return console.log(notice.expires);
    case "denied":
      return console.log(notice.reason);
  }
});
stream.addEventListener("state", ({ detail }) => {
  const state: State = detail;
  if (state === "ended") stream.close();
});
stream.open();

const { job } = await create({ upstream: "sora", input: { prompt: "a cat" } }, "key");
await cancel(job, { credentials: "include" });
new RelayStream({ credentials: "omit" });

const ask = async ({ jobs = null, fresh }: Asked) => (fresh ? (jobs ?? []).join() : null);
const another = new RelayStream({ token: ask, user: "ann" });
another.token = "text";
another.ticket = ask;
await cancel(job, { token: async () => "text" });

const element = document.querySelector("relay-progress");
element?.state.percent?.toFixed();
if (element) Object.assign(element, { token: ask, user: "ann" });
if (element) element.ticket = ask;

// @ts-expect-error: not a level
new RelayStream({ level: "loud" });
// @ts-expect-error: either a task or an input
await create({ upstream: "sora" });
// @ts-expect-error: a record has no such field
stream.addEventListener("record", ({ detail }) => detail.colour);
// @ts-expect-error: none of what fetch takes
new RelayStream({ credentials: "always" });
// @ts-expect-error: a ticket opens one stream, so there is a function for it
new RelayStream({ ticket: "text" });
