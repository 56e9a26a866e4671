/** The past of a log, read from the relay: the journal keeps more than the page. */

import { headers } from "./access.js";
import { Parser } from "./event-stream.js";

/**
 * The kept records of *job* ("" for all) of at least *level*, up to *position*, oldest first: the newest *most* of them,
 * the number of older ones, and whether the past is kept whole. Rejects if the relay does not answer with a stream, or
 * if *signal* aborts.
 */
export async function history({ job, level }, position, most, signal) {
  const url = new URL("../v1/events", import.meta.url);
  if (job) url.searchParams.set("job", job);
  url.searchParams.set("level", level);
  url.searchParams.set("follow", "false");
  const response = await fetch(url, { headers: { ...headers, Accept: "text/event-stream" }, cache: "no-store", signal });
  if (response.status !== 200) throw new Error(`the relay answered with status ${response.status}`);
  const [records, parser, last] = [[], new Parser(), offset(position)];
  let [older, whole] = [0, true];
  for await (const chunk of response.body) {
    for (const { type, id, data } of parser.push(chunk)) {
      const record = JSON.parse(data);
      if (type === "gap") whole = false;
      if (record.seq && offset(id) <= last) records.push(record);
      if (records.length >= 2 * most) older += records.splice(0, most).length;
    }
  }
  older += records.splice(0, Math.max(0, records.length - most)).length;
  return { records, older, whole };
}

const offset = (position) => +position.split("-").at(-1);
