// A shell in a runtime, over a WebSocket that a ticket opens: a page can't send the key with it.

import { address, of } from "./api.js";
import { h, setText } from "./dom.js";
import { FitAddon } from "./vendor/xterm/addon-fit.js";
import { Terminal } from "./vendor/xterm/xterm.js";

/** Show it; see ``showOverview`` for what is returned. */
export function showTerminal(panel, { api, id, last }) {
  const place = h("div", { class: "shell" });
  const state = h("span", { class: "count", role: "status" });
  const again = h("button", { type: "button", id: "reconnect", hidden: true, onclick: () => open() }, "Open again");
  panel.replaceChildren(h("div", { class: "row" }, state, again,
    h("small", { class: "hint shell-hint" }, "Ctrl+Shift+Esc leaves the terminal.")), place);
  const terminal = new Terminal({ fontSize: 14, cursorBlink: true, scrollback: 5000, screenReaderMode: false, theme: { background: "#11151c" } });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  const stopStyling = openStyled(terminal, place);
  // Tab belongs to the shell; without another way out, a keyboard would be caught here (WCAG 2.1.2).
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type !== "keydown" || event.key !== "Escape" || !event.ctrlKey || !event.shiftKey) return true;
    document.getElementById("tab-terminal").focus();
    return false;
  });
  const encoder = new TextEncoder();
  let socket = null;
  let over = false;
  const send = (data) => { if (socket?.readyState === WebSocket.OPEN) socket.send(data); };
  terminal.onData((text) => send(encoder.encode(text)));
  terminal.onBinary((text) => send(Uint8Array.from(text, (each) => each.charCodeAt(0))));
  const resize = ({ rows, cols }) => send(JSON.stringify({ resize: { rows, columns: cols } }));
  terminal.onResize(resize);
  const resized = new ResizeObserver(() => fit.fit());
  resized.observe(place);

  // Arrow keys on the tabs lead here as well, and on from here.
  function take() {
    if (!document.activeElement?.matches("[role=tab]")) terminal.focus();
  }

  function ended(text) {
    setText(state, text);
    socket = null;
    again.hidden = false;
  }

  async function open() {
    again.hidden = true;
    setText(state, "Opening …");
    let ticket;
    try {
      ({ ticket } = await api.call("POST", of(id, "/terminal/ticket")));
    } catch (error) {
      ended(error.message);
      return;
    }
    if (over) return;
    fit.fit();
    const target = address(of(id, "/terminal"));
    target.protocol = target.protocol === "https:" ? "wss:" : "ws:";
    target.search = new URLSearchParams({ ticket, rows: terminal.rows, columns: terminal.cols });
    const opened = new WebSocket(target);
    opened.binaryType = "arraybuffer";
    let why = "";
    // Its size may have changed on the way.
    opened.onopen = () => { setText(state, "Connected"); terminal.reset(); resize(terminal); take(); };
    opened.onmessage = ({ data }) => {
      if (typeof data !== "string") terminal.write(new Uint8Array(data));
      else why = told(JSON.parse(data));
    };
    opened.onclose = () => { if (!over) ended(why || refusal(last())); };
    socket = opened;
  }
  open();
  return { end: () => { over = true; resized.disconnect(); socket?.close(); terminal.dispose(); stopStyling(); } };
}

function told(message) {
  if (message.exit) return `The shell has ended with ${message.exit.exit_code ?? "no exit code"}.`;
  return message.error?.detail || "";
}

// A browser doesn't tell a page why a handshake was refused.
const refusal = (runtime) => (runtime && runtime.status !== "running" ? `It is ${runtime.status}: terminals need a running one.` : "The connection was closed.");

/**
 * Open the terminal with its style sheets as constructed ones (CSSOM): xterm.js fills `<style>` elements, whose text
 * the page's Content Security Policy forbids. It makes them all while it opens.
 * @returns {function()} Takes the sheets away again.
 */
function openStyled(terminal, place) {
  const sheets = [];
  const create = document.createElement;
  document.createElement = function createElement(name, ...rest) {
    if (name !== "style") return create.call(document, name, ...rest);
    // An empty one is forbidden as well, so its place is taken by an element that shows nothing.
    const element = h("template");
    const sheet = new CSSStyleSheet();
    sheets.push(sheet);
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
    Object.defineProperty(element, "textContent", { set: (text) => sheet.replaceSync(text), get: () => "" });
    return element;
  };
  try {
    terminal.open(place);
  } finally {
    delete document.createElement;
  }
  return () => { document.adoptedStyleSheets = document.adoptedStyleSheets.filter((each) => !sheets.includes(each)); };
}
