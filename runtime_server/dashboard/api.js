// Calls of the API. The key goes with each of them as a header, and nowhere else.

const ATTEMPTS = 4;
/** Statuses with which proxies say that nobody answers. */
const AWAY = new Set([502, 503, 504]);
/** Milliseconds of silence after which a stream counts as dead; the server says something every 15 s. */
const SILENCE = 50000;
/** Milliseconds that any other answer may take: a read, and a change, which may wait for a runtime's grace. */
const PATIENCE = 15000;
const CHANGE_PATIENCE = 60000;
/** Milliseconds before a stream is opened again: at first, at most, and how long one must last to count as steady. */
const SOON = 300;
const LATE = 5000;
const STEADY = 10000;

/** A problem that the server told (RFC 9457), or that it can't be reached: status 0. */
export class ApiError extends Error {
  constructor(status, problem, after = 0) {
    super(problem.detail || `The server answered ${status}.`);
    this.status = status;
    this.problem = problem;
    /** Milliseconds that the server asked to wait. */
    this.after = after;
  }

  get away() {
    return this.status === 0 || (AWAY.has(this.status) && !this.problem.code?.startsWith("engine-"));
  }

  /** Whether the same call may succeed later. */
  get passing() {
    return this.away || this.problem.retryable === true;
  }

  /** Its text, with what is wrong in which field. */
  get sentences() {
    const fields = (this.problem.errors || []).map((each) => `${each.loc.slice(1).join(".") || each.loc[0]}: ${each.msg}`);
    return [this.message, ...fields].join("\n");
  }
}

export const pause = (milliseconds, signal) =>
  new Promise((done) => {
    if (signal?.aborted) return done();
    const end = () => { clearTimeout(timer); signal?.removeEventListener("abort", end); done(); };
    const timer = setTimeout(end, milliseconds);
    signal?.addEventListener("abort", end);
  });

/**
 * Read a stream until it ends by itself, however often it breaks. The waits grow, and differ between pages: those that
 * lost the server together don't come back together. A stream that ends as soon as it has begun counts as broken.
 * @param {function(): Promise} read Reads it once.
 * @param {function(ApiError)} lost Is told each time; what isn't passing, unless `stays`, is told once.
 */
export async function persist(read, lost, signal, stays = false) {
  for (let wait = SOON; !signal.aborted; wait = Math.min(wait * 2, LATE)) {
    const began = Date.now();
    let after = 0;
    try {
      return await read();
    } catch (error) {
      if (signal.aborted || error.status === 401) return;
      if (!(error instanceof ApiError)) throw error;
      lost(error);
      if (!error.passing && !stays) return;
      after = error.after;
    }
    if (Date.now() - began > STEADY) wait = SOON;
    await pause(Math.max(after, wait * (0.5 + Math.random())), signal);
  }
}

/** An idempotency key: 128 random bits; `crypto.randomUUID` is missing on pages that came by plain HTTP. */
export const randomKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (each) => each.toString(16).padStart(2, "0")).join("");

export const address = (path) => new URL(path, document.baseURI);

/** A path below a runtime. */
export const of = (id, rest = "") => `runtimes/${encodeURIComponent(id)}${rest}`;

export class Api {
  // Private to the class, so that nothing that lists or logs an object shows it.
  #key;
  #refused;
  #signal;

  /**
   * @param {?string} key The API key; null: none, where the server asks for none.
   * @param {function(ApiError)} refused Called when the key isn't accepted.
   * @param {AbortSignal} [signal] Ends all that is under way, and what would be tried again.
   */
  constructor(key, refused, signal = new AbortController().signal) {
    this.#key = key;
    this.#refused = refused;
    this.#signal = signal;
  }

  /** Send a request and return its answer as JSON. Where none came, it is sent again with the same idempotency key. */
  async call(method, path, body, key = randomKey()) {
    const headers = method === "GET" ? {} : { "Idempotency-Key": key };
    for (let attempt = 1; ; attempt += 1) {
      try {
        const answer = await this.#send(method, path, body, headers, AbortSignal.timeout(method === "GET" ? PATIENCE : CHANGE_PATIENCE));
        return await answer.json().catch(() => { throw unreachable("The answer was cut off."); });
      } catch (error) {
        if (this.#signal.aborted) throw signedOut();
        if (!error.passing || attempt >= ATTEMPTS) throw error;
        await pause(Math.min(LATE, Math.max(error.after, 400 * attempt)), this.#signal);
      }
    }
  }

  /** The objects of an NDJSON stream as they come; `error` lines are thrown, heartbeats and the end passed over. */
  async *lines(path, { method = "GET", body, signal, onopen } = {}) {
    const silence = new AbortController();
    const wait = () => setTimeout(() => silence.abort(), SILENCE);
    const over = () => signal?.aborted || this.#signal.aborted;
    let timer = wait();
    try {
      const headers = { Accept: "application/x-ndjson", ...(method !== "GET" && { "Idempotency-Key": randomKey() }) };
      const answer = await this.#send(method, path, body, headers, signal ? AbortSignal.any([signal, silence.signal]) : silence.signal);
      onopen?.();
      for await (const line of split(answer.body)) {
        clearTimeout(timer);
        timer = wait();
        const found = JSON.parse(line);
        if (found.error?.code) throw new ApiError(found.error.status || 500, found.error);
        if (found.end !== undefined && Object.keys(found).length === 1) return;
        if (found.heartbeat === undefined) yield found;
      }
      throw unreachable("The connection ended.");
    } catch (error) {
      if (over()) return;
      throw error instanceof ApiError ? error : unreachable("The connection was lost.");
    } finally {
      clearTimeout(timer);
      silence.abort();
    }
  }

  async #send(method, path, body, headers, signal) {
    const sent = { ...headers };
    if (this.#key !== null) sent["X-API-Key"] = this.#key;
    if (body !== undefined) sent["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(address(path), {
        method, headers: sent, signal: AbortSignal.any([signal, this.#signal]), body: body === undefined ? undefined : JSON.stringify(body),
        cache: "no-store", credentials: "same-origin", redirect: "error",
      });
    } catch {
      throw unreachable("The server can't be reached.");
    }
    if (answer.ok) return answer;
    const problem = await answer.json().catch(() => ({}));
    const error = new ApiError(answer.status, problem, 1000 * (Number(answer.headers.get("Retry-After")) || 0));
    if (answer.status === 401 && !this.#signal.aborted) this.#refused(error);
    throw error;
  }
}

const unreachable = (detail) => new ApiError(0, { detail });

// Nobody is there to be told; refusals of a key are passed over as well.
const signedOut = () => new ApiError(401, { detail: "You have signed out." });

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
