// How each of these programs is driven: a JSON request a line, and a JSON document of the result a line.
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";

/** Perform the requests on standard input: {"do": "chat", ...} calls the operation `chat` with all other keys. */
export async function serve(operations) {
  // Whatever a client prints goes to standard error.
  console.log = console.info = console.debug = console.error;
  for await (const line of createInterface({ input: process.stdin })) {
    const { do: name, ...request } = JSON.parse(line);
    writeSync(1, `${JSON.stringify(await operations[name](request))}\n`);
  }
  process.exit(0);
}

/** What a user of the client can read from an error. */
export function described(error) {
  const { type = null, code = null, status = null, statusCode = status } = error;
  return { class: error.constructor.name, message: error.message ?? null, type, code, status_code: statusCode };
}
