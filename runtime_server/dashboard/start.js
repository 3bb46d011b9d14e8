// The form that starts a runtime.

import { randomKey } from "./api.js";
import { h, note } from "./dom.js";
import { called } from "./format.js";

/** Each field: name of the input, label, what else the input has, and what it adds to the body. */
const FIELDS = [
  ["image", "Image", { required: true, placeholder: "busybox", list: "start-images" }, (text) => ({ image: text })],
  ["name", "Name", { placeholder: "optional, yours alone" }, (text) => ({ name: text })],
  ["command", "Command", { placeholder: "optional, as in a shell" }, (text) => ({ command: text })],
  ["ports", "Ports", { placeholder: "8000, 8080/udp", pattern: String.raw`\s*\d+(/(tcp|udp))?(\s*,\s*\d+(/(tcp|udp))?)*\s*` }, (text) => ({
    ports: text.split(",").map((each) => each.trim().split("/")).map(([port, protocol]) => ({ container_port: Number(port), ...(protocol && { protocol }) })),
  })],
  ["ttl", "Ends after (minutes)", { type: "number", min: "0.1", step: "any", inputMode: "decimal", placeholder: "never" }, (text) => ({ ttl: Number(text) * 60 })],
  ["memory", "Memory", { placeholder: "512m" }, (text) => ({ memory: text })],
  ["cpus", "CPUs", { type: "number", min: "0.01", step: "any", inputMode: "decimal" }, (text) => ({ cpus: Number(text) })],
  ["session_id", "Session", { placeholder: "optional" }, (text) => ({ session_id: text })],
];

function pairs(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  return Object.fromEntries(lines.map((line) => {
    const [name, ...value] = line.split("=");
    return [name.trim(), value.join("=")];
  }));
}

/** Show it. The answer comes at once, with `starting`; the list shows how it goes on. */
export function openStartForm(api, runtimes) {
  const inputs = FIELDS.map(([name, , more]) => h("input", { id: `start-${name}`, name, autocomplete: "off", spellcheck: false, ...more }));
  const environment = h("textarea", { id: "start-environment", rows: 2, spellcheck: false, placeholder: "NAME=value, one a line" });
  const labels = h("textarea", { id: "start-labels", rows: 2, spellcheck: false, placeholder: "team=agents, one a line" });
  const more = h("textarea", { id: "start-more", rows: 3, spellcheck: false, placeholder: '{"read_only": true}' });
  const images = h("datalist", { id: "start-images" });
  const failure = h("p", { class: "failure", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: "primary" }, "Start");
  const field = (input, label) => h("div", { class: "field" }, h("label", { htmlFor: input.id }, label), input);
  const form = h("form", { onsubmit: (event) => { event.preventDefault(); submit(); } },
    h("h2", { id: "start-title" }, "Start a runtime"),
    h("div", { class: "fields" }, inputs.map((input, index) => field(input, FIELDS[index][1]))),
    h("div", { class: "fields" }, field(environment, "Environment"), field(labels, "Labels")),
    h("details", {}, h("summary", {}, "Everything else"), field(more, "Further fields of POST /start, as JSON")),
    failure,
    h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go), images);
  const dialog = h("dialog", { "aria-labelledby": "start-title", onclose: () => dialog.remove() }, form);

  function body() {
    const filled = FIELDS.map(([, , , read], index) => [inputs[index].value.trim(), read]).filter(([text]) => text);
    const found = Object.assign({ wait: 0 }, ...filled.map(([text, read]) => read(text)));
    if (environment.value.trim()) found.environment = pairs(environment.value);
    if (labels.value.trim()) found.labels = pairs(labels.value);
    return { ...found, ...(more.value.trim() && JSON.parse(more.value)) };
  }

  // Where no answer came, something may have been started: the same form once more is the same start.
  let unanswered = { text: "", key: "" };

  async function submit() {
    failure.hidden = true;
    go.disabled = true;
    let attempt = unanswered;
    try {
      const sent = body();
      const text = JSON.stringify(sent);
      if (text !== attempt.text) attempt = { text, key: randomKey() };
      const started = await api.call("POST", "start", sent, attempt.key);
      runtimes.told(started);
      note(`${called(started)} ${started.created ? "is being started." : "was there already, for that session."}`);
      dialog.close();
    } catch (error) {
      unanswered = error.away ? attempt : { text: "", key: "" };
      failure.textContent = error.sentences || `Not JSON: ${error.message}`;
      failure.hidden = false;
      if (error.status === 401) dialog.close();
    } finally {
      go.disabled = false;
    }
  }

  document.body.append(dialog);
  dialog.showModal();
  inputs[0].focus();
  api.call("GET", "images").then((found) => {
    images.append(...found.images.flatMap((each) => each.references).map((each) => h("option", { value: each })));
  }, () => {});
}
