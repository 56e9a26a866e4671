// npm standardwebhooks and npm svix: each line of the input is a delivery, as JSON; each line of the output says, for
// every key of it and both packages, "accepted", or the words of the refusal.
import { createInterface } from "node:readline";
import * as standardwebhooks from "standardwebhooks";
import * as svix from "svix";

for await (const line of createInterface({ input: process.stdin })) {
  const { keys, headers, body } = JSON.parse(line);
  const said = [];
  for (const { Webhook } of [standardwebhooks, svix]) {
    for (const key of keys) {
      try {
        new Webhook(key).verify(body, headers);
        said.push("accepted");
      } catch (error) {
        said.push(error.message);
      }
    }
  }
  console.log(JSON.stringify(said));
}
