/** Who the page is for: a session, one job by a watch link, or everybody where the relay asks nobody. */

import { $, element, setText } from "./dom.js";

const BASE = new URL("../", import.meta.url);
const STORE = `relay watch ${BASE.pathname}`;

/** The capability of a watch link, or "". */
const capability = readLink();

/** The job of the watch link, or "". */
export const watched = capability.split(".").slice(2, -1).join(".");

/** The options for calls and streams of relay.js. */
export const how = capability ? { token: capability } : {};

/** The headers for requests past relay.js. */
export const headers = capability ? { Authorization: `Bearer ${capability}` } : {};

const main = document.querySelector("main");
const tabs = new BroadcastChannel(`relay session ${BASE.pathname}`);

/**
 * Ask what this page may do, and show only that. Returns the scopes; those of everybody if the relay does not say, since
 * it refuses by itself what is not allowed.
 */
export async function rights() {
  const { subject, scopes, expires, signed_in: signedIn } = await session();
  const may = new Set(scopes?.split(" ") ?? ["jobs:submit", "jobs:cancel", "operate"]);
  $("new").hidden = !may.has("jobs:submit");
  document.body.classList.toggle("no-cancel", !may.has("jobs:cancel"));
  $("sign-out").hidden = !signedIn || watched !== "";
  setText($("subject"), watched ? "" : (subject ?? ""));
  $("until").hidden = !expires;
  if (expires) $("until").querySelector("time").textContent = new Date(expires).toLocaleString();
  if (!subject) return may;
  // A page that the browser restores must show nothing of a session that has ended meanwhile.
  addEventListener("pagehide", () => (main.hidden = true));
  addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
  return may;
}

/** Show why the relay refuses this page, and how to go on. */
export function deny(status) {
  main.hidden = true;
  $("sign-in").hidden = false;
  $("sign-in-form").hidden = watched !== "";
  setText($("why"), reason(status));
  (watched ? $("leave") : $("token")).focus();
}

function reason(status) {
  if (watched) return "This link has expired, or was withdrawn. Ask for a new one.";
  if (status === 403) return "What you signed in with may not read jobs here. Another token may.";
  return "This relay shows its jobs only to those who have a token.";
}

async function session() {
  try {
    const response = await fetch(new URL("v1/session", BASE), { headers, cache: "no-store" });
    return response.ok ? await response.json() : {};
  } catch {
    return {};
  }
}

/**
 * The capability is taken out of the address at once: no history, bookmark or screenshot is to have it. A reload needs
 * it, so it is kept for this tab, as sessionStorage is: that is sent nowhere, no other tab reads it, and it ends with the tab.
 */
function readLink() {
  const named = new URLSearchParams(location.hash.slice(1)).get("watch");
  if (named) history.replaceState(null, "", location.pathname + location.search);
  try {
    if (named) sessionStorage.setItem(STORE, named);
    return named ?? sessionStorage.getItem(STORE) ?? "";
  } catch {
    return named ?? "";
  }
}

function leave() {
  try {
    sessionStorage.removeItem(STORE);
  } catch {}
  location.reload();
}

async function signIn() {
  const [field, button] = [$("token"), $("sign-in-form").querySelector("button")];
  if (button.ariaDisabled === "true") return;
  button.ariaDisabled = "true";
  setText($("sign-in-answer"), "Signing in");
  try {
    await exchange(field.value.trim());
    again();
  } catch ({ message }) {
    setText($("sign-in-answer"), `Not signed in: ${message}`);
    field.focus();
  } finally {
    field.value = "";
    button.ariaDisabled = "false";
  }
}

/** The token becomes a cookie that no script can read. */
async function exchange(token) {
  let response;
  try {
    const proof = new Headers({ Authorization: `Bearer ${token}` });
    response = await fetch(new URL("v1/session", BASE), { method: "POST", headers: proof });
  } catch {
    throw new Error(/^[!-~]+$/.test(token) ? "the relay did not answer" : "this is no token");
  }
  if (response.ok) return;
  const { detail } = await response.json().catch(() => ({}));
  throw new Error(detail ?? `the relay answered with status ${response.status}`);
}

async function signOut() {
  try {
    const { ok, status } = await fetch(new URL("v1/session", BASE), { method: "DELETE" });
    if (!ok && status !== 401) throw new Error();
    again();
  } catch {
    setText($("connection"), "Not signed out: the relay did not answer");
  }
}

/** Nothing of the session before may stay, in this tab or another. */
function again() {
  tabs.postMessage("changed");
  location.reload();
}

tabs.onmessage = () => watched || location.reload();

addEventListener("hashchange", () => location.hash.includes("watch=") && location.reload());
$("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn();
});
$("sign-out").addEventListener("click", signOut);
$("leave").addEventListener("click", leave);

if (watched) {
  document.body.classList.add("watching");
  $("watching").hidden = false;
  $("watched").append(element("bdi", "", watched));
}
