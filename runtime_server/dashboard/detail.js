// One runtime: what it is and has been through, its output, what it uses, and a terminal in it.

import { act, adjust, buttons } from "./actions.js";
import { of } from "./api.js";
import { h, oncePerFrame, setText } from "./dom.js";
import { called, clock, since, until } from "./format.js";
import { showLogs } from "./logs.js";
import { showTerminal } from "./terminal.js";
import { showUsage } from "./usage.js";

const TABS = [["overview", "Overview", showOverview], ["logs", "Logs", showLogs], ["usage", "Usage", showUsage], ["terminal", "Terminal", showTerminal]];

/**
 * Show a runtime, and of it the tab that the address names.
 * @returns {function()} Ends it.
 */
export function showDetail(main, context, id, tab) {
  const { api, runtimes } = context;
  const title = h("h2", { tabIndex: -1 }, id);
  const state = h("span", { class: "state", role: "status" });
  const actions = h("div", { class: "row actions", onclick: clicked }, buttons());
  const panel = h("div", { class: "panel", id: "panel", role: "tabpanel", tabIndex: -1, "aria-labelledby": `tab-${tab}` });
  const tabs = TABS.map(([name, label]) => h("a", {
    href: `#/runtimes/${id}/${name}`, role: "tab", id: `tab-${name}`, "aria-selected": String(name === tab), "aria-controls": "panel",
    tabIndex: name === tab ? 0 : -1,
  }, label));
  main.replaceChildren(
    h("p", { class: "back" }, h("a", { href: "#/" }, "← All runtimes")),
    h("div", { class: "row heading" }, title, state, actions),
    h("div", { class: "tabs", role: "tablist", "aria-label": "About this runtime", onkeydown: turned }, tabs), panel);

  // Arrow keys go from tab to tab (WAI-ARIA Authoring Practices, tabs).
  function turned(event) {
    const turn = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!turn) return;
    event.preventDefault();
    const next = tabs[(tabs.indexOf(document.activeElement) + turn + tabs.length) % tabs.length];
    context.keepFocus = next.id;
    next.click();
  }

  function clicked(event) {
    const button = event.target.closest("button[data-action]");
    if (button && last) act(api, runtimes, button, last);
  }

  let last = runtimes.all.get(id) || null;
  const view = { id, last: () => last, ...context };
  const draw = oncePerFrame(() => {
    if (over) return;
    const found = runtimes.all.get(id);
    if (found) last = found;
    else if (last && runtimes.loaded) last = { ...last, status: "removed", status_detail: null };
    if (!last) {
      if (runtimes.loaded) readOnce();
      return;
    }
    show();
  });
  let over = false;
  let asked = false;
  // One that has been removed isn't in the list, but can still be read; so can one by its name.
  async function readOnce() {
    if (asked) return;
    asked = true;
    try {
      const read = await api.call("GET", of(id));
      if (over) return;
      if (read.runtime_id !== id) return location.replace(`#/runtimes/${read.runtime_id}/${tab}`);
      last = read;
      show();
    } catch (error) {
      if (over) return;
      stops.end();
      setText(state, "");
      panel.replaceChildren(h("p", { class: "empty" }, error.message));
    }
  }
  function show() {
    setText(title, called(last));
    document.title = `${called(last)} – Runtime Server`;
    setText(state, last.status);
    state.className = `state ${last.status}`;
    adjust(actions, last);
    stops.changed?.(last);
  }
  const stops = TABS.find(([name]) => name === tab)[2](panel, view);
  runtimes.addEventListener("change", draw);
  draw();
  const kept = context.keepFocus && document.getElementById(context.keepFocus);
  context.keepFocus = null;
  (kept || title).focus({ preventScroll: true });
  return () => { over = true; runtimes.removeEventListener("change", draw); stops.end(); };
}

function showOverview(panel, { api, runtimes, id, last }) {
  const facts = h("dl", { class: "facts" });
  const timeline = h("ol", { class: "timeline", "aria-label": "History" });
  panel.replaceChildren(h("div", { class: "overview" }, facts, h("section", {}, h("h3", {}, "History"), timeline)));

  const changed = (runtime) => facts.replaceChildren(...factsOf(runtime).filter(([, value]) => value)
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

  const read = async () => {
    try {
      const { entries } = await api.call("GET", of(id, "/history"));
      timeline.replaceChildren(...entries.map((each, index) => h("li", { class: each.status },
        h("span", { class: `state ${each.status}` }, each.status), h("time", { dateTime: each.at }, clock(each.at)),
        index > 0 && h("small", {}, `after ${tookSince(entries[index - 1].at, each.at)}`), each.detail && h("p", {}, each.detail))));
    } catch (error) {
      timeline.replaceChildren(h("li", {}, error.message));
    }
  };
  const heard = (event) => { if (event.detail === id) read(); };
  const back = () => { if (runtimes.connected) read(); };
  runtimes.addEventListener("history", heard);
  runtimes.addEventListener("connection", back);
  const ticking = setInterval(() => last() && changed(last()), 1000);
  read();
  return {
    changed,
    end: () => { clearInterval(ticking); runtimes.removeEventListener("history", heard); runtimes.removeEventListener("connection", back); },
  };
}

function tookSince(before, after) {
  const seconds = (Date.parse(after) - Date.parse(before)) / 1000;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 10 ? `${seconds.toFixed(2)} s` : since(new Date(Date.now() - seconds * 1000));
}

function factsOf(runtime) {
  const ports = Object.entries(runtime.ports || {}).map(([port, hosts]) => `${port} → ${(hosts || []).map((each) => `${each.HostIp}:${each.HostPort}`).join(", ")}`);
  const url = runtime.url && /^https?:/.test(runtime.url) && h("a", { href: runtime.url, target: "_blank", rel: "noreferrer noopener" }, runtime.url);
  const ended = runtime.exit && [`exit code ${runtime.exit.exit_code ?? "unknown"}`, runtime.exit.signal, runtime.exit.oom_killed && "out of memory"].filter(Boolean).join(", ");
  return [
    ["State", `${runtime.status}${runtime.status_detail ? `: ${runtime.status_detail}` : ""}`],
    ["Id", h("code", {}, runtime.runtime_id)],
    ["Owner", runtime.owner],
    ["Image", h("code", {}, runtime.image)],
    ["Session", runtime.session_id],
    ["Created", `${clock(runtime.created_at)}, ${since(runtime.created_at)} ago`],
    ["Expires", runtime.expires_at ? `${clock(runtime.expires_at)}, ${until(runtime.expires_at).replace(/^(?=\d)/, "in ")}` : "never"],
    ["Address", url],
    ["Ports", ports.join("; ")],
    ["Labels", Object.entries(runtime.labels || {}).map(([key, value]) => `${key}=${value}`).join(", ")],
    ["Environment", Object.keys(runtime.environment || {}).join(", ")],
    ["Ended with", ended],
    ["Error", runtime.error?.detail],
    ["Restarts", runtime.restart_count ? String(runtime.restart_count) : null],
  ];
}
