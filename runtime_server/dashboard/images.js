// The engine's images, and pulls of others with their progress.

import { h, note, setText } from "./dom.js";
import { bytes, imageParts, since } from "./format.js";

/** Pulls of this page by image; they go on while other pages are shown. */
const pulls = new Map();
/** Pulls at once: a browser opens six connections to a host (HTTP/1.1), and the page needs some of them itself. */
const AT_ONCE = 2;
/** Lists the images of the view that is shown: a pull may outlive the view that began it. */
let listAgain = () => {};

export const forgetPulls = () => pulls.clear();

/**
 * Show them.
 * @returns {function()} Ends it.
 */
export function showImages(main, { api }) {
  const body = h("tbody", {});
  const failure = h("p", { class: "failure", role: "alert", hidden: true });
  const reference = h("input", { id: "pull-image", required: true, placeholder: "registry.example.com/team/agent:1", autocomplete: "off", spellcheck: false });
  const running = h("div", { class: "pulls" });
  const empty = h("p", { class: "empty", hidden: true }, "There is no image that this key may see. Pull one above, or start a runtime, which pulls its own.");
  main.replaceChildren(
    h("h2", { class: "hidden" }, "Images"),
    h("form", { class: "toolbar", onsubmit: (event) => { event.preventDefault(); begin(reference.value.trim()); } },
      h("label", { htmlFor: "pull-image" }, "Pull an image"), reference, h("button", { type: "submit", class: "primary" }, "Pull")),
    running, failure,
    h("table", { class: "images" }, h("caption", { class: "hidden" }, "Images"),
      h("thead", {}, h("tr", {}, ["Image", "Size", "Built", "Id"].map((each) => h("th", { scope: "col" }, each)))), body), empty);

  async function list() {
    try {
      const { images } = await api.call("GET", "images");
      failure.hidden = true;
      empty.hidden = images.length > 0;
      body.replaceChildren(...images.map((each) => h("tr", {},
        h("th", { scope: "row" }, each.references.length ? each.references.map(nameOf) : "–"), h("td", { "data-label": "Size", class: "number" }, bytes(each.size_bytes)),
        h("td", { "data-label": "Built" }, each.created_at ? `${since(each.created_at)} ago` : "–"),
        h("td", { "data-label": "Id" }, h("code", {}, each.image_id.replace("sha256:", "").slice(0, 12))))));
    } catch (error) {
      if (error.status === 401) return;
      failure.textContent = error.message;
      failure.hidden = false;
    }
  }

  function begin(image) {
    if (pulls.get(image)?.over === false) return;
    const pull = new Pull(image);
    pulls.get(image)?.element.remove();
    pulls.set(image, pull);
    running.append(pull.element);
    next();
  }

  function next() {
    const begun = [...pulls.values()].filter((each) => each.begun && !each.over).length;
    for (const each of [...pulls.values()].filter((one) => !one.begun).slice(0, Math.max(0, AT_ONCE - begun))) {
      each.run(api).then(() => { listAgain(); next(); });
    }
  }

  running.append(...[...pulls.values()].map((each) => each.element));
  listAgain = list;
  list();
  return () => { listAgain = () => {}; for (const [image, each] of pulls) if (each.over) pulls.delete(image); };
}

function nameOf(reference) {
  const [from, name] = imageParts(reference);
  return h("div", {}, h("strong", {}, name), h("small", {}, from));
}

class Pull {
  constructor(image) {
    this.image = image;
    this.begun = false;
    this.over = false;
    this._layers = new Map();
    this._state = h("span", { role: "status" }, "Waiting for another pull …");
    this._bar = h("progress", { "aria-label": `Pull of ${image}` });
    this._list = h("ul", { class: "layers", "aria-label": "Layers" });
    this.element = h("section", { class: "pull", "data-image": image }, h("div", { class: "row" }, h("h3", {}, image), this._state), this._bar, this._list);
  }

  async run(api) {
    this.begun = true;
    setText(this._state, "Asking …");
    try {
      for await (const line of api.lines("images/pull", { method: "POST", body: { image: this.image } })) this._take(line);
    } catch (error) {
      if (error.status === 401) return;
      this.element.classList.add("failed");
      setText(this._state, error.message);
      this._bar.hidden = true;
      note(`${this.image}: ${error.message}`, true);
    } finally {
      this.over = true;
    }
  }

  _take(line) {
    if (line.status === "complete") {
      this._bar.max = this._bar.value = 1;
      this.element.classList.add("complete");
      setText(this._state, `Complete, ${bytes(line.size_bytes)}`);
      return;
    }
    if (!line.layer) {
      setText(this._state, line.detail || "Pulling …");
      return;
    }
    this._layer(line);
    const known = [...this._layers.values()].filter((each) => each.total);
    const total = known.reduce((sum, each) => sum + each.total, 0);
    if (total) {
      const done = known.reduce((sum, each) => sum + Math.min(each.current, each.total), 0);
      this._bar.max = total;
      this._bar.value = done;
      setText(this._state, `${bytes(done)} of ${bytes(total)}`);
    }
  }

  _layer({ layer, detail, current_bytes: current, total_bytes: total }) {
    const known = this._layers.get(layer) || this._newLayer(layer);
    if (total) Object.assign(known, { current: current ?? 0, total });
    if (/complete|exists/i.test(detail || "")) known.current = known.total = known.total || 1;
    known.bar.max = known.total || 1;
    // Without a value the bar says that it isn't known how far it is.
    if (known.total) known.bar.value = known.current;
    setText(known.text, detail || "");
    setText(known.size, total ? `${bytes(current ?? 0)} of ${bytes(total)}` : "");
  }

  _newLayer(layer) {
    const known = { text: h("span", {}), size: h("span", { class: "number" }), bar: h("progress", { "aria-label": `Layer ${layer}` }), current: 0, total: 0 };
    this._layers.set(layer, known);
    this._list.append(h("li", { "data-layer": layer }, h("code", {}, layer), known.bar, known.text, known.size));
    return known;
  }
}
