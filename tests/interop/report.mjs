// What each of these programs is given, and how it says what it heard: a JSON array of id, event and data a line.
import { writeSync } from "node:fs";

export const [, , url, ...types] = process.argv;

export function write(id, event, data) {
  writeSync(1, `${JSON.stringify([id, event, data])}\n`);
}
