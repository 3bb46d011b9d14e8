// A runtime's output, live.

import { of, persist } from "./api.js";
import { h, oncePerFrame, setText } from "./dom.js";

const TAIL = 500;
/** Lines and characters that the page keeps, and characters of one line: a runtime may write without end. */
const KEPT = 5000;
const KEPT_SIZE = 4e6;
const WIDTH = 16384;
// Colours and cursor movements of terminals (ECMA-48, control sequences), and what else has no glyph.
const CONTROL = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])|[\x00-\x08\x0b-\x1f\x7f]/g;

/** Show it; see ``showOverview`` for what is returned. */
export function showLogs(panel, { api, id }) {
  const ends = new AbortController();
  const output = h("pre", { class: "logs", role: "log", tabIndex: 0, "aria-label": "Output", "aria-live": "off" });
  const state = h("span", { class: "count", role: "status" }, "Waiting for output …");
  const follow = h("input", { type: "checkbox", id: "follow", checked: true, onchange: () => { if (follow.checked) down(); } });
  const times = h("input", { type: "checkbox", id: "times", onchange: () => output.classList.toggle("timed", times.checked) });
  panel.replaceChildren(h("div", { class: "row" }, h("label", { class: "check" }, follow, "Follow"), h("label", { class: "check" }, times, "Times"), state), output);

  // Who scrolls up wants to read, and not to be taken down again.
  output.addEventListener("scroll", () => { follow.checked = output.scrollHeight - output.scrollTop - output.clientHeight < 40; });

  const waiting = new Lines();
  let size = 0;
  const down = () => { output.scrollTop = output.scrollHeight; };
  const draw = oncePerFrame(() => {
    const stays = follow.checked;
    output.append(...waiting.take().map((each) => { size += each.line.length; return lineOf(each); }));
    while (output.childElementCount > KEPT || size > KEPT_SIZE) {
      size -= output.firstElementChild.lastChild.length;
      output.firstElementChild.remove();
    }
    if (stays) down();
  });
  const clear = () => { output.replaceChildren(); waiting.take(); size = 0; };

  async function read() {
    // Lines have no position to go on from: what is there is asked for again.
    const open = () => { clear(); setText(state, "Live"); };
    for await (const line of api.lines(of(id, `/logs?follow=true&format=ndjson&tail=${TAIL}`), { signal: ends.signal, onopen: open })) {
      if (typeof line.line !== "string") continue;
      waiting.add({ ...line, line: shown(line.line) });
      draw();
    }
    if (!ends.signal.aborted) setText(state, "This is all: its process has ended.");
  }
  const run = () => persist(read, (error) => setText(state, error.message), ends.signal);
  let running = run();
  let status = null;
  return {
    // One that runs again writes again.
    changed: (runtime) => {
      if (status && !["running", "paused"].includes(status) && runtime.status === "running") running = running.then(run);
      status = runtime.status;
    },
    end: () => ends.abort(),
  };
}

/** Lines that aren't drawn yet. A hidden page draws late or never, so the oldest are dropped as from the page. */
class Lines {
  #lines = [];
  #size = 0;

  add(line) {
    this.#lines.push(line);
    this.#size += line.line.length;
    if (this.#lines.length > 2 * KEPT || this.#size > 2 * KEPT_SIZE) this.#drop();
  }

  take() {
    this.#drop();
    const taken = this.#lines;
    this.#lines = [];
    this.#size = 0;
    return taken;
  }

  #drop() {
    let first = Math.max(0, this.#lines.length - KEPT);
    for (const each of this.#lines.slice(0, first)) this.#size -= each.line.length;
    for (; this.#size > KEPT_SIZE; first += 1) this.#size -= this.#lines[first].line.length;
    if (first) this.#lines = this.#lines.slice(first);
  }
}

/** As a terminal would have left it: of a line that was written over and over, the last. */
function shown(line) {
  const text = line.replace(/[\r\n]+$/, "");
  const last = text.slice(text.lastIndexOf("\r") + 1).replace(CONTROL, "");
  return `${last.length > WIDTH ? `${last.slice(0, WIDTH)} …` : last}\n`;
}

function lineOf({ stream, time, line }) {
  return h("span", { class: stream === "stderr" ? "stderr" : "stdout" }, h("time", {}, time ? `${time.slice(0, 23)} ` : ""), line);
}
