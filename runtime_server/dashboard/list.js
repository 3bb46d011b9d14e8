// The table of all runtimes. A row is made once and changed where something differs, so that many stay fast.

import { act, adjust, buttons } from "./actions.js";
import { h, oncePerFrame, setText } from "./dom.js";
import { called, imageParts, since, soon, until } from "./format.js";
import { openStartForm } from "./start.js";

const STATES = ["starting", "running", "paused", "stopping", "stopped", "error"];
const COLUMNS = [
  ["name", "Runtime", (each) => called(each).toLowerCase()],
  ["status", "State", (each) => STATES.indexOf(each.status)],
  ["owner", "Owner", (each) => each.owner],
  ["image", "Image", (each) => each.image],
  ["age", "Age", (each) => -Date.parse(each.created_at)],
  ["expiry", "Expires in", (each) => (each.expires_at ? Date.parse(each.expires_at) : Infinity)],
];

/** What is searched, filtered and sorted by; outlives the page's views. */
const wanted = { text: "", status: "", owner: "", sort: "age", down: false };

export const forgetSearch = () => Object.assign(wanted, { text: "", status: "", owner: "" });

/**
 * Show the list.
 * @returns {function()} Ends it.
 */
export function showList(main, { api, runtimes }) {
  const rows = new Map();
  const body = h("tbody", { onclick: clicked });
  const heads = COLUMNS.map(([id, label]) => h("th", { scope: "col", "data-column": id },
    h("button", { type: "button", class: "sort", onclick: () => sortBy(id) }, label)));
  const search = h("input", {
    type: "search", id: "search", placeholder: "Name, id, session, image, label …", value: wanted.text, "aria-label": "Search",
    oninput: () => { wanted.text = search.value; draw(); },
  });
  const owner = h("select", { id: "filter-owner", "aria-label": "Owner", onchange: () => { wanted.owner = owner.value; draw(); } },
    h("option", { value: "" }, "Any owner"));
  const states = ["", ...STATES].map((each) => stateButton(each));
  const count = h("p", { class: "count", role: "status" });
  const empty = h("div", { class: "empty", hidden: true }, h("p", { class: "what" }), h("p", {}));
  main.replaceChildren(
    h("h2", { class: "hidden" }, "Runtimes"),
    h("div", { class: "toolbar" }, search, owner,
      h("button", { type: "button", id: "start", class: "primary", onclick: () => openStartForm(api, runtimes) }, "Start a runtime")),
    h("div", { class: "row" }, h("div", { class: "states", role: "group", "aria-label": "State" }, states), count),
    h("table", { class: "runtimes" }, h("caption", { class: "hidden" }, "Runtimes"),
      h("thead", {}, h("tr", {}, heads, h("th", { scope: "col" }, "Actions"))), body),
    empty);

  function stateButton(state) {
    return h("button", { type: "button", "data-state": state || "any", onclick: () => { wanted.status = state; draw(); } },
      h("span", { class: state && `state ${state}` }, state || "All"), " ", h("span", { class: "number" }));
  }

  function sortBy(column) {
    wanted.down = wanted.sort === column ? !wanted.down : false;
    wanted.sort = column;
    draw();
  }

  function clicked(event) {
    const button = event.target.closest("button[data-action]");
    const runtime = button && runtimes.all.get(button.closest("tr").dataset.id);
    if (runtime) act(api, runtimes, button, runtime);
  }

  function matches(runtime) {
    if (wanted.status && runtime.status !== wanted.status) return false;
    if (wanted.owner && runtime.owner !== wanted.owner) return false;
    const text = wanted.text.trim().toLowerCase();
    if (!text) return true;
    const labels = Object.entries(runtime.labels || {}).map(([key, value]) => `${key}=${value}`);
    const fields = [runtime.name, runtime.runtime_id, runtime.session_id, runtime.image, runtime.owner, ...labels];
    return text.split(/\s+/).every((word) => fields.some((each) => each?.toLowerCase().includes(word)));
  }

  function draw() {
    const key = COLUMNS.find(([id]) => id === wanted.sort)[2];
    const turn = wanted.down ? -1 : 1;
    const sorted = [...runtimes.all.values()].map((each) => [key(each), each])
      .sort(([a, one], [b, two]) => turn * (a < b ? -1 : a > b ? 1 : one.runtime_id < two.runtime_id ? -1 : 1));
    for (const [id, row] of rows) if (!runtimes.all.has(id)) { row.element.remove(); rows.delete(id); }
    let next = body.firstElementChild;
    let shown = 0;
    for (const [, each] of sorted) {
      const row = rows.get(each.runtime_id) || newRow(each);
      row.show(each);
      // Hidden rather than taken out: making 500 rows again takes long, and so does moving them.
      row.element.hidden = !matches(each);
      shown += row.element.hidden ? 0 : 1;
      if (row.element === next) next = next.nextElementSibling;
      else body.insertBefore(row.element, next);
    }
    for (const head of heads) {
      if (head.dataset.column === wanted.sort) head.setAttribute("aria-sort", wanted.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
    drawOwners();
    drawStates();
    const all = runtimes.all.size;
    setText(count, runtimes.loaded ? (shown === all ? `${all} runtime${all === 1 ? "" : "s"}` : `${shown} of ${all} runtimes`) : "Loading …");
    body.parentElement.hidden = shown === 0;
    empty.hidden = !runtimes.loaded || shown > 0;
    setText(empty.firstChild, all ? "No runtime is like that." : "There is no runtime yet.");
    setText(empty.lastChild, all ? "Search for less, or show all states and owners." : "Start one here, from the command line or by the API: it appears at once.");
  }

  // States that no runtime is in are left out, so that what there is stands out.
  function drawStates() {
    const counts = Object.groupBy([...runtimes.all.values()], (each) => each.status);
    for (const button of states) {
      const state = button.dataset.state === "any" ? "" : button.dataset.state;
      const there = state ? counts[state]?.length || 0 : runtimes.all.size;
      setText(button.lastChild, String(there));
      button.hidden = Boolean(state) && !there && wanted.status !== state;
      button.setAttribute("aria-pressed", String(wanted.status === state));
    }
  }

  function drawOwners() {
    const names = [...new Set([...runtimes.all.values()].map((each) => each.owner))].sort();
    if (wanted.owner && !names.includes(wanted.owner)) names.push(wanted.owner);
    if ([...owner.options].slice(1).map((each) => each.value).join("\n") !== names.join("\n")) {
      owner.replaceChildren(owner.options[0], ...names.map((each) => h("option", { value: each }, each)));
      owner.value = wanted.owner;
    }
  }

  function newRow(runtime) {
    const row = makeRow(runtime);
    rows.set(runtime.runtime_id, row);
    return row;
  }

  const changed = oncePerFrame(draw);
  runtimes.addEventListener("change", changed);
  const ticking = setInterval(() => { if (!document.hidden) for (const row of rows.values()) row.tick(); }, 1000);
  draw();
  return () => { clearInterval(ticking); runtimes.removeEventListener("change", changed); };
}

function makeRow(runtime) {
  const id = runtime.runtime_id;
  const link = h("a", { href: `#/runtimes/${id}` });
  const small = h("small", {});
  const state = h("span", {});
  const detail = h("small", { class: "detail" });
  const owner = h("td", { "data-label": "Owner" });
  const image = h("strong", {});
  const from = h("small", {});
  const age = h("td", { "data-label": "Age", class: "number" });
  const expiry = h("td", { "data-label": "Expires in", class: "number" });
  const actions = h("td", { class: "actions" }, buttons());
  const element = h("tr", { "data-id": id }, h("th", { scope: "row" }, link, small),
    h("td", { "data-label": "State" }, state, detail), owner, h("td", { "data-label": "Image", class: "image" }, image, from), age, expiry, actions);
  let shown = null;
  const row = {
    element,
    /** Show what differs from what is shown. */
    show(each) {
      if (each === shown) return;
      if (each.status !== shown?.status || each.name !== shown.name) adjust(actions, each);
      shown = each;
      element.dataset.status = each.status;
      setText(link, called(each));
      setText(small, each.name ? id : each.session_id || "");
      setText(state, each.status);
      state.className = `state ${each.status}`;
      setText(detail, each.status === "running" ? "" : each.status_detail || "");
      detail.title = detail.textContent;
      setText(owner, each.owner);
      const [registry, name] = imageParts(each.image);
      setText(image, name);
      setText(from, registry);
      image.parentElement.title = each.image;
      row.tick();
    },
    tick() {
      setText(age, since(shown.created_at));
      setText(expiry, until(shown.expires_at));
      expiry.classList.toggle("soon", soon(shown.expires_at));
    },
  };
  return row;
}
