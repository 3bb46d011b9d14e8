// The dashboard: who is signed in, which page is shown, and whether the server is there.

import { Api } from "./api.js";
import { showDetail } from "./detail.js";
import { h, setText } from "./dom.js";
import { forgetPulls, showImages } from "./images.js";
import { forgetSearch, showList } from "./list.js";
import { Runtimes } from "./runtimes.js";

/** Kept as long as the tab, by this page alone. */
const STORED = "runtime-server.key";
const main = document.getElementById("main");
const banner = document.getElementById("banner");
const connection = document.getElementById("connection");
const leave = document.getElementById("leave");

let session = null;
let endView = () => {};

function signIn(key) {
  const ends = new AbortController();
  const api = new Api(key, () => signOut("The key isn't accepted any more. Sign in again."), ends.signal);
  const runtimes = new Runtimes(api);
  session = { api, runtimes, ends };
  leave.hidden = key === null;
  runtimes.addEventListener("connection", showConnection);
  runtimes.follow(ends.signal);
  showConnection();
  route();
}

function signOut(why) {
  if (!session) return;
  session.ends.abort();
  session = null;
  sessionStorage.removeItem(STORED);
  endView();
  endView = () => {};
  // Who signs in next may be somebody else.
  forgetPulls();
  forgetSearch();
  document.getElementById("notes").replaceChildren();
  for (const dialog of document.querySelectorAll("dialog")) dialog.remove();
  leave.hidden = true;
  showConnection();
  showLogin(why);
}

function showLogin(why = "") {
  document.title = "Sign in – Runtime Server";
  const key = h("input", { type: "password", id: "key", required: true, autocomplete: "current-password", spellcheck: false, "aria-describedby": "login-failure" });
  const failure = h("p", { class: "failure", id: "login-failure", role: "alert" }, why);
  const go = h("button", { type: "submit", class: "primary" }, "Sign in");
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    const found = await tried(key.value.trim());
    go.disabled = false;
    if (found) setText(failure, found.status === 401 ? "The server doesn't accept this key." : found.message);
  };
  main.replaceChildren(h("form", { class: "login", onsubmit: submit },
    h("h2", {}, "Sign in"),
    // Password managers keep a secret under a name.
    h("input", { type: "text", autocomplete: "username", value: "runtime-server", hidden: true, readOnly: true }),
    h("label", { htmlFor: "key" }, "API key"), key,
    h("p", { class: "hint" }, "The key stays in this tab. The server's first one lies in its state directory, in the file ", h("code", {}, "api-key"), "."),
    failure, go));
  key.focus();
}

/** Sign in if the key, or null for none, is accepted; else why not. */
async function tried(key) {
  try {
    await new Api(key, () => {}).call("GET", "runtimes?limit=1");
  } catch (error) {
    return error;
  }
  if (key !== null) sessionStorage.setItem(STORED, key);
  signIn(key);
  return null;
}

function showConnection() {
  for (const link of document.querySelectorAll("nav a[data-page]")) link.hidden = !session;
  const state = session ? session.runtimes.connected : null;
  connection.className = `connection ${state === null ? "" : state ? "live" : "away"}`;
  setText(connection, !session ? "" : state === null ? "Connecting …" : state ? "Live" : "Not live");
  banner.hidden = state !== false;
  if (state === false) {
    const { why } = session.runtimes;
    setText(banner, why.away ? "The server can't be reached. What you see may be old; this page goes on by itself once it is back." : `Changes aren't followed: ${why.message}`);
  }
}

// What somebody has typed there need not be well-formed.
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function route() {
  if (!session) return;
  endView();
  endView = () => {};
  main.replaceChildren();
  const [page, id, tab] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  for (const link of document.querySelectorAll("nav a[data-page]")) {
    if (link.dataset.page === (page || "runtimes")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = "Runtime Server";
  if (page === "images") endView = showImages(main, session);
  else if (page === "runtimes" && id) endView = showDetail(main, session, id, ["logs", "usage", "terminal"].includes(tab) ? tab : "overview");
  else endView = showList(main, session);
}

addEventListener("hashchange", route);
leave.addEventListener("click", () => signOut(""));
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea, select, dialog, .shell")) return;
  const search = document.getElementById("search");
  if (search) { event.preventDefault(); search.focus(); }
});

const stored = sessionStorage.getItem(STORED);
const failed = await tried(stored);
if (failed) {
  if (failed.status === 401) sessionStorage.removeItem(STORED);
  // A page that is loaded while the server is away waits for it, as one that was there before does.
  if (failed.status !== 401 && stored !== null) signIn(stored);
  else showLogin(stored === null ? "" : "The key isn't accepted any more. Sign in again.");
}
