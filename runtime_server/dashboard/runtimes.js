// All runtimes as the server has them: listed once, and from there on kept right by its events.

import { ApiError, of, pause, persist } from "./api.js";

const KEPT = "starting,running,paused,stopping,stopped,error";
/** Milliseconds in which events are gathered before the server is asked what has become of their runtimes. */
const GATHER = 120;
/** Changed runtimes at once from which on a new list is cheaper. */
const MANY = 20;
/** A list may be asked for again after this many milliseconds, or this many times what it has taken. */
const LIST_PAUSE = 1000;
const LIST_SHARE = 4;
/** Milliseconds between lists, for what no event tells, e.g. a renewal. */
const RELIST = 60000;

export class Runtimes extends EventTarget {
  /** @param {Api} api What asks. */
  constructor(api) {
    super();
    this._api = api;
    this._changed = new Set();
    this._timer = null;
    this._listed = 0;
    this._pause = 0;
    this._signal = null;
    this._listing = Promise.resolve();
    /** While a list is asked for: what has been heard of meanwhile. */
    this._heard = null;
    this.all = new Map();
    this.loaded = false;
    /** Null while it isn't known, then whether the server's events are heard. */
    this.connected = null;
  }

  /** Follow the server until the signal; goes on by itself when the server was away. */
  async follow(signal) {
    this._signal = signal;
    const progress = setInterval(() => this._lookAtStarts(), 1000);
    const relist = setInterval(() => this._lookAgain(), RELIST);
    // A page that nobody looks at asks for nothing, and is put right when it is looked at.
    document.addEventListener("visibilitychange", () => this._lookAgain(), { signal });
    try {
      await persist(() => this._read(signal), (error) => this._lost(error), signal, true);
    } finally {
      clearInterval(progress);
      clearInterval(relist);
      clearTimeout(this._timer);
    }
  }

  async _read(signal) {
    let begun = false;
    for await (const line of this._api.lines("events?format=ndjson", { signal })) {
      if (!begun) await this._begin();
      begun = true;
      if (!("position" in line)) this._hear(line);
    }
    if (!signal.aborted) throw new ApiError(0, { detail: "The events have ended." });
  }

  /** Take what a change answered, and ask once more: events may have been faster, and a call sent again is answered as at first. */
  told(runtime) {
    if (runtime.status !== "starting" || !this.all.has(runtime.runtime_id)) this.put(runtime);
    this.refresh(runtime.runtime_id);
  }

  /** Put in what is known of one. */
  put(runtime) {
    this._heard?.add(runtime.runtime_id);
    if (runtime.status === "removed") this.all.delete(runtime.runtime_id);
    else this.all.set(runtime.runtime_id, runtime);
    this._tell("change", runtime.runtime_id);
  }

  /** Ask for one again, soon. */
  refresh(id) {
    if (this._signal?.aborted) return;
    this._changed.add(id);
    this._timer ??= setTimeout(() => this._quietly(this._ask()).finally(() => this._again()), GATHER);
  }

  // What has changed while the server was asked is asked for next, so that one question is open at a time.
  _again() {
    this._timer = null;
    const [id] = this._changed;
    if (id) this.refresh(id);
  }

  // Events first, then the list: what changes in between is in both, and nothing is in neither.
  async _begin() {
    await this._list();
    this.connected = true;
    this._tell("connection");
  }

  _lost(error) {
    this.connected = false;
    this.why = error;
    this._tell("connection");
    // Too many streams: the list still tells what there is.
    if (!error.away) this._quietly(this._list());
  }

  _hear(event) {
    const known = this.all.get(event.runtime_id);
    this._heard?.add(event.runtime_id);
    if (event.status === "removed") this.all.delete(event.runtime_id);
    else if (known) this.all.set(event.runtime_id, { ...known, status: event.status, status_detail: event.detail });
    if (known) this._tell("change", event.runtime_id);
    // Also of what is gone: an answer that is on its way may bring it back.
    this.refresh(event.runtime_id);
    this._tell("history", event.runtime_id);
  }

  // One after the other, or an older list could come after a newer one.
  _list() {
    this._listing = this._listing.catch(() => {}).then(() => this._readList());
    return this._listing;
  }

  async _readList() {
    const began = Date.now();
    const found = new Map();
    const heard = this._heard = new Set();
    let cursor = "";
    do {
      const page = await this._api.call("GET", `runtimes?limit=1000&status=${KEPT}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
      for (const each of page.runtimes) found.set(each.runtime_id, each);
      cursor = page.next_cursor || "";
    } while (cursor);
    // The list may be older than what was heard while it was on its way.
    for (const id of heard) {
      if (this.all.has(id)) found.set(id, this.all.get(id));
      else found.delete(id);
    }
    this._heard = null;
    this._listed = Date.now();
    this._pause = Math.max(LIST_PAUSE, LIST_SHARE * (this._listed - began));
    this.all = found;
    this.loaded = true;
    this._tell("change");
  }

  async _ask() {
    if (this._changed.size > MANY) {
      // Events have told the states by then; a server that is busy is not to be kept busy by who looks at it.
      await pause(Math.max(0, this._listed + this._pause - Date.now()), this._signal);
      this._changed.clear();
      return this._list();
    }
    const ids = [...this._changed];
    this._changed.clear();
    await Promise.all(ids.map(async (id) => {
      try {
        this.put(await this._api.call("GET", of(id)));
      } catch (error) {
        if (error.status === 404) this.put({ runtime_id: id, status: "removed" });
        else throw error;
      }
    }));
  }

  // How far a pull is, no event tells.
  _lookAtStarts() {
    if (!this.connected || document.hidden) return;
    const starting = [...this.all.values()].filter((each) => each.status === "starting").slice(0, MANY);
    for (const each of starting) this.refresh(each.runtime_id);
  }

  _lookAgain() {
    if (this.loaded && !document.hidden && Date.now() - this._listed > RELIST / 2) this._quietly(this._list());
  }

  async _quietly(work) {
    try {
      await work;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
    }
  }

  _tell(type, id) {
    this.dispatchEvent(new CustomEvent(type, { detail: id }));
  }
}
