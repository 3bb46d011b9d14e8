// Elements made by script: text is never read as HTML, and no style is written as an attribute.

/**
 * An element.
 * @param {string} tag Its name.
 * @param {Object} [attributes] `class`, `on…` for listeners, properties where the element has them, else attributes.
 * @param {...(Node|string|null|undefined|false|Array)} children What is in it.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && name !== "list" && name !== "role") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((each) => each || each === 0 || each === ""));
  return element;
}

/** Set a text only where it differs: a change costs a layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Messages that stay at once; more would cover the page. */
const NOTES = 4;
let notes = 0;

/** Say something for some seconds; a failure stays until it is closed. */
export function note(text, failed = false) {
  const close = () => element.remove();
  const element = h("div", { class: failed ? "note failed" : "note", id: `note-${++notes}` }, h("p", {}, text),
    h("button", { type: "button", class: "quiet", onclick: close, "aria-label": "Close this message" }, "×"));
  const place = document.getElementById("notes");
  place.append(element);
  while (place.childElementCount > NOTES) place.firstElementChild.remove();
  if (!failed) setTimeout(close, 5000);
}

/** At most one call a frame, however often it is asked for. */
export function oncePerFrame(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    // A hidden page has no frames, and is to be right when it is looked at again.
    const run = () => { asked = false; work(); };
    if (document.hidden) setTimeout(run, 200);
    else requestAnimationFrame(run);
  };
}
