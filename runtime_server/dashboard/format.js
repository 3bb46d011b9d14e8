// How things are written for people.

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** Seconds in two units at most, `1 h 5 min`. */
export function duration(seconds) {
  let rest = Math.max(0, Math.floor(seconds));
  const found = UNITS.findIndex(([size]) => rest >= size);
  if (found < 0) return "0 s";
  const parts = [];
  for (const [size, unit] of UNITS.slice(found, found + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) parts.push(`${count} ${unit}`);
  }
  return parts.join(" ");
}

/** Bytes in binary units. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let value = count;
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (Math.abs(value) < 1024 || unit === "TiB") return `${unit === "B" ? Math.round(value) : value.toFixed(1)} ${unit}`;
    value /= 1024;
  }
  return "–";
}

export const since = (moment) => duration((Date.now() - Date.parse(moment)) / 1000);

/** Time to a moment; past ones are due. */
export function until(moment) {
  if (!moment) return "never";
  const left = (Date.parse(moment) - Date.now()) / 1000;
  return left > 0 ? duration(left) : "due";
}

/** Whether little time is left to a moment: five minutes. */
export const soon = (moment) => Boolean(moment) && Date.parse(moment) - Date.now() < 300_000;

export const clock = (moment) => (moment ? new Date(moment).toLocaleString() : "–");

/** An image's registry and path, and what tells it from its neighbours: its last part with tag or digest. */
export function imageParts(reference) {
  const end = reference.lastIndexOf("/", reference.includes("@") ? reference.indexOf("@") : undefined);
  return [reference.slice(0, Math.max(end, 0)), reference.slice(end + 1)];
}

/** What a person calls a runtime. */
export const called = (runtime) => runtime.name || runtime.runtime_id;
