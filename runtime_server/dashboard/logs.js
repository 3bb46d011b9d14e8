// A runtime's output, live.

import { of, pause } from "./api.js";
import { h, oncePerFrame, setText } from "./dom.js";

const TAIL = 500;
/** Lines that the page keeps. */
const KEPT = 5000;
// Colours and cursor movements of terminals (ECMA-48, control sequences).
const CONTROL = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])/g;

/** Show it; see ``showOverview`` for what is returned. */
export function showLogs(panel, { api, id }) {
  const ends = new AbortController();
  const output = h("pre", { class: "logs", role: "log", tabIndex: 0, "aria-label": "Output", "aria-live": "off" });
  const state = h("span", { class: "count", role: "status" }, "Waiting for output …");
  const follow = h("input", { type: "checkbox", id: "follow", checked: true, onchange: () => { if (follow.checked) down(); } });
  const times = h("input", { type: "checkbox", id: "times", onchange: () => output.classList.toggle("timed", times.checked) });
  panel.replaceChildren(h("div", { class: "row" }, h("label", {}, follow, " Follow"), h("label", {}, times, " Times"), state), output);

  // Who scrolls up wants to read, and not to be taken down again.
  output.addEventListener("scroll", () => { follow.checked = output.scrollHeight - output.scrollTop - output.clientHeight < 40; });

  let waiting = [];
  const down = () => { output.scrollTop = output.scrollHeight; };
  const draw = oncePerFrame(() => {
    const stays = follow.checked;
    output.append(...waiting.slice(-KEPT).map(lineOf));
    waiting = [];
    while (output.childElementCount > KEPT) output.firstElementChild.remove();
    if (stays) down();
  });

  async function run() {
    while (!ends.signal.aborted) {
      try {
        const open = () => { output.replaceChildren(); waiting = []; setText(state, "Live"); };
        const lines = api.lines(of(id, `/logs?follow=true&format=ndjson&tail=${TAIL}`), { signal: ends.signal, onopen: open });
        for await (const line of lines) {
          if (typeof line.line !== "string") continue;
          waiting.push(line);
          draw();
        }
        if (ends.signal.aborted) return;
        setText(state, "This is all: its process has ended.");
        return;
      } catch (error) {
        setText(state, error.message);
        if (!error.away) return;
        await pause(2000, ends.signal);
      }
    }
  }
  let running = run();
  let status = null;
  return {
    // One that runs again writes again.
    changed: (runtime) => {
      if (status && status !== runtime.status && runtime.status === "running") running = running.then(run);
      status = runtime.status;
    },
    end: () => ends.abort(),
  };
}

function lineOf({ stream, time, line }) {
  return h("span", { class: stream === "stderr" ? "stderr" : "stdout" },
    h("time", {}, time ? `${time.slice(0, 23)} ` : ""), line.replace(CONTROL, "").replace(/\n?$/, "\n"));
}
