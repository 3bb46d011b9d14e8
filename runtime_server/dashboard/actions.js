// What can be done to a runtime, and how it is asked whether it is meant.

import { of, pause } from "./api.js";
import { h, note } from "./dom.js";
import { called } from "./format.js";

/** By name: in which states, whether it ends something, what is sent. */
export const ACTIONS = {
  pause: { label: "Pause", states: ["running"], send: (api, id) => api.call("POST", "pause", { runtime_id: id }) },
  resume: { label: "Resume", states: ["paused"], send: (api, id) => api.call("POST", "resume", { runtime_id: id }) },
  stop: {
    label: "Stop", ends: "Its processes end. What is in its files stays until it is removed.",
    states: ["starting", "running", "paused"], send: (api, id) => api.call("POST", "stop", { runtime_id: id }),
  },
  remove: {
    label: "Remove", ends: "Its processes end, and its files are deleted. This can't be undone.",
    states: ["starting", "running", "paused", "stopping", "stopped", "error"],
    send: (api, id) => api.call("DELETE", of(id)),
  },
};

/** The buttons of a runtime; those that its state forbids are disabled, so that they keep their places. */
export function buttons(names = Object.keys(ACTIONS)) {
  return names.map((name) => h("button", { type: "button", "data-action": name, class: ACTIONS[name].ends ? "danger" : "" }, ACTIONS[name].label));
}

/** Enable what the state allows, and say whose buttons they are. */
export function adjust(element, runtime) {
  const focused = element.contains(document.activeElement) && document.activeElement;
  for (const button of element.querySelectorAll("button[data-action]")) {
    const { label, states } = ACTIONS[button.dataset.action];
    // Pause and resume take turns in one place.
    if (button.dataset.action === "resume") button.hidden = runtime.status !== "paused";
    if (button.dataset.action === "pause") button.hidden = runtime.status === "paused";
    button.disabled = !states.includes(runtime.status);
    button.setAttribute("aria-label", `${label} ${called(runtime)}`);
  }
  // What had the focus may have been hidden or disabled: a keyboard goes on with what took its place.
  if (focused && (focused.hidden || focused.disabled)) element.querySelector("button:not([hidden], :disabled)")?.focus();
}

/** Runtimes with something under way: one thing after the other. */
const busy = new Set();
/** Milliseconds after an answer in which no button does anything: Resume comes where Pause was, under a double click. */
const REST = 500;

/** Do what a button says. What ends something is asked about before. */
export async function act(api, runtimes, button, runtime) {
  const action = ACTIONS[button.dataset.action];
  const id = runtime.runtime_id;
  if (busy.has(id) || (action.ends && !(await confirmed(action, runtime)))) return;
  const place = button.parentElement;
  busy.add(id);
  place.setAttribute("aria-busy", "true");
  await send(api, runtimes, action, runtime);
  await pause(REST);
  busy.delete(id);
  place.removeAttribute("aria-busy");
}

async function send(api, runtimes, action, runtime) {
  try {
    const done = await action.send(api, runtime.runtime_id);
    runtimes.told(done);
    note(`${called(runtime)}: ${done.message}`);
  } catch (error) {
    if (error.status === 401) return;
    note(`${called(runtime)}: ${error.message}`, true);
    runtimes.refresh(runtime.runtime_id);
  }
}

/** Whether a person has typed the runtime's name: nothing that a wrong click or a held Enter does. */
function confirmed(action, runtime) {
  return new Promise((done) => {
    const name = called(runtime);
    const matches = () => [runtime.name, runtime.runtime_id].includes(typed.value.trim());
    const typed = h("input", { id: "confirm-name", autocomplete: "off", spellcheck: false, autocapitalize: "off", oninput: () => { go.disabled = !matches(); } });
    const go = h("button", { type: "submit", class: "danger filled", disabled: true }, action.label);
    const dialog = h("dialog", { class: "confirm", "aria-labelledby": "confirm-title", onclose: () => { dialog.remove(); done(dialog.returnValue === "yes"); } },
      h("form", { onsubmit: (event) => { event.preventDefault(); if (matches()) dialog.close("yes"); } },
        h("h2", { id: "confirm-title" }, `${action.label} ${name}?`),
        h("p", {}, action.ends),
        h("label", { htmlFor: "confirm-name" }, "Type ", h("code", {}, name), " to go on"), typed,
        h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close("") }, "Cancel"), go)));
    document.body.append(dialog);
    dialog.showModal();
    typed.focus();
  });
}
