// Calls of the API. The key goes with each of them as a header, and nowhere else.

const ATTEMPTS = 3;
/** Statuses with which proxies say that nobody answers. */
const AWAY = new Set([502, 503, 504]);
/** Milliseconds of silence after which a stream counts as dead; the server says something every 15 s. */
const SILENCE = 50000;

/** A problem that the server told (RFC 9457), or that it can't be reached: status 0. */
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || `The server answered ${status}.`);
    this.status = status;
    this.problem = problem;
  }

  get away() {
    return this.status === 0 || (AWAY.has(this.status) && !this.problem.code?.startsWith("engine-"));
  }

  /** Its text, with what is wrong in which field. */
  get sentences() {
    const fields = (this.problem.errors || []).map((each) => `${each.loc.slice(1).join(".") || each.loc[0]}: ${each.msg}`);
    return [this.message, ...fields].join("\n");
  }
}

export const pause = (milliseconds, signal) =>
  new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });

/** 128 random bits; `crypto.randomUUID` is missing on pages that came by plain HTTP. */
const randomKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (each) => each.toString(16).padStart(2, "0")).join("");

export const address = (path) => new URL(path, document.baseURI);

/** A path below a runtime. */
export const of = (id, rest = "") => `runtimes/${encodeURIComponent(id)}${rest}`;

export class Api {
  /**
   * @param {?string} key The API key; null: none, where the server asks for none.
   * @param {function(ApiError)} refused Called when the key isn't accepted.
   */
  constructor(key, refused) {
    this._key = key;
    this._refused = refused;
  }

  /** Send a request and return its answer as JSON. Changes are sent again where no answer came, with the same key. */
  async call(method, path, body) {
    const headers = method === "GET" ? {} : { "Idempotency-Key": randomKey() };
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await (await this._send(method, path, body, headers)).json();
      } catch (error) {
        if (!(error instanceof ApiError) || !error.away || attempt >= ATTEMPTS) throw error;
        await pause(400 * attempt);
      }
    }
  }

  /** The objects of an NDJSON stream as they come; `error` lines are thrown, heartbeats and the end passed over. */
  async *lines(path, { method = "GET", body, signal, onopen } = {}) {
    const silence = new AbortController();
    signal?.addEventListener("abort", () => silence.abort(), { once: true });
    if (signal?.aborted) return;
    let timer = setTimeout(() => silence.abort(), SILENCE);
    try {
      const answer = await this._send(method, path, body, { Accept: "application/x-ndjson" }, silence.signal);
      onopen?.();
      for await (const line of split(answer.body)) {
        clearTimeout(timer);
        timer = setTimeout(() => silence.abort(), SILENCE);
        const found = JSON.parse(line);
        if (found.error?.code) throw new ApiError(found.error.status || 500, found.error);
        if (found.end !== undefined && Object.keys(found).length === 1) return;
        if (found.heartbeat === undefined) yield found;
      }
      throw unreachable("The connection ended.");
    } catch (error) {
      if (signal?.aborted) return;
      throw error instanceof ApiError ? error : unreachable("The connection was lost.");
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  async _send(method, path, body, headers, signal) {
    const sent = { ...headers };
    if (this._key !== null) sent["X-API-Key"] = this._key;
    if (body !== undefined) sent["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(address(path), {
        method, headers: sent, signal, body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store", credentials: "same-origin", redirect: "error",
      });
    } catch {
      throw unreachable("The server can't be reached.");
    }
    if (answer.ok) return answer;
    const problem = await answer.json().catch(() => ({}));
    const error = new ApiError(answer.status, problem);
    if (answer.status === 401) this._refused(error);
    throw error;
  }
}

const unreachable = (detail) => new ApiError(0, { detail });

async function* split(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part) yield part;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
