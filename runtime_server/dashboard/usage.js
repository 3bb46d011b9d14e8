// What a runtime uses, plotted as it comes.

import { of, persist } from "./api.js";
import { h, setText } from "./dom.js";
import { bytes } from "./format.js";
import uPlot from "./vendor/uplot/uPlot.js";

/** Samples that are shown, one a second. */
const KEPT = 300;
/** Seconds that a plot has room for from the beginning. */
const ROOM = 60;
/** Steps of an axis in bytes: binary, so that its labels are whole. */
const BINARY = Array.from({ length: 50 }, (_, power) => 2 ** power);
const CHARTS = [
  ["cpu", "CPU", [["CPU", "--line-1"]], (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`, { least: 5 }],
  ["memory", "Memory", [["Memory", "--line-2"]], bytes, { least: 2 ** 20, incrs: BINARY }],
  ["network", "Network", [["Received", "--line-1"], ["Sent", "--line-2"]], (value) => `${bytes(value)}/s`, { least: 1024, incrs: BINARY }],
];

/** Show it; see ``showOverview`` for what is returned. */
export function showUsage(panel, { api, id, last }) {
  const ends = new AbortController();
  const state = h("p", { class: "count", role: "status" }, "Measuring …");
  const charts = CHARTS.map((each) => makeChart(...each));
  panel.replaceChildren(state, h("div", { class: "charts" }, charts.map((each) => each.element)));
  const resized = new ResizeObserver(() => { for (const each of charts) each.fit(); });
  resized.observe(panel);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const recoloured = () => { for (const each of charts) each.make(); };
  scheme.addEventListener("change", recoloured);

  let before = null;
  function take(stats) {
    const at = Date.parse(stats.time) / 1000;
    const seconds = before ? at - before.at : 0;
    const rate = (field) => (seconds > 0 ? Math.max(0, (stats[field] - before.stats[field]) / seconds) : null);
    charts[0].add(at, [stats.cpu_percent], `of ${stats.cpus} CPUs, ${stats.pids} processes`);
    charts[1].add(at, [stats.memory_bytes], stats.memory_limit_bytes ? `of ${bytes(stats.memory_limit_bytes)}` : "");
    charts[2].add(at, [rate("network_rx_bytes"), rate("network_tx_bytes")], `${bytes(stats.network_rx_bytes)} received, ${bytes(stats.network_tx_bytes)} sent`);
    before = { at, stats };
  }

  async function read() {
    const stream = api.lines(of(id, "/stats?stream=true&interval=1"), { signal: ends.signal, onopen: () => setText(state, "Live") });
    for await (const line of stream) if (line.time) take(line);
    if (!ends.signal.aborted) setText(state, "It isn't running.");
  }
  const run = () => persist(read, (error) => setText(state, error.message), ends.signal);
  let running = run();
  let status = last()?.status;
  return {
    changed: (runtime) => {
      if (status && !["running", "paused"].includes(status) && runtime.status === "running") running = running.then(run);
      status = runtime.status;
    },
    end: () => {
      ends.abort();
      resized.disconnect();
      scheme.removeEventListener("change", recoloured);
      for (const each of charts) each.destroy();
    },
  };
}

function makeChart(name, title, lines, write, { least, incrs }) {
  const values = lines.map(() => h("span", {}, "–"));
  // Lines that share a plot are told apart by colour and by name.
  const value = h("strong", { class: "value" }, lines.map(([label, variable], index) => h("span", { class: `line ${variable.slice(2)}` },
    values[index], lines.length > 1 && " ", lines.length > 1 && h("small", {}, label.toLowerCase()))));
  const more = h("small", {});
  const place = h("div", { class: "plot", "aria-hidden": "true" });
  const element = h("section", { class: "chart", "data-chart": name, "aria-label": title }, h("h3", {}, title), h("p", {}, value, more), place);
  const data = [[], ...lines.map(() => [])];
  let plot = null;
  const color = (variable) => getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
  const size = () => ({ width: Math.max(200, place.clientWidth), height: 180 });
  const axis = () => ({ stroke: color("--muted"), grid: { stroke: color("--border"), width: 1 }, ticks: { stroke: color("--border"), width: 1 } });
  const chart = {
    element,
    make() {
      plot?.destroy();
      plot = new uPlot({
        ...size(),
        legend: { show: false },
        cursor: { drag: { x: false, y: false } },
        scales: {
          x: { range: (_plot, low, high) => [Math.min(low, high - ROOM), high] },
          y: { range: (_plot, _low, high) => [0, Math.max(least, high * 1.15)] },
        },
        axes: [
          { ...axis(), space: 80, incrs: [1, 5, 10, 15, 30, 60, 120], values: (_plot, ticks) => ticks.map((each) => new Date(each * 1000).toLocaleTimeString()) },
          { ...axis(), size: 84, incrs, values: (_plot, ticks) => ticks.map(write) },
        ],
        series: [{}, ...lines.map(([label, variable]) => ({
          label, stroke: color(variable), fill: `${color(variable)}1f`, width: 2, spanGaps: true, points: { show: false },
        }))],
      }, data, place);
    },
    fit() {
      if (plot && plot.width !== size().width) plot.setSize(size());
    },
    add(at, numbers, text) {
      data[0].push(at);
      numbers.forEach((each, index) => data[index + 1].push(each));
      for (const each of data) if (each.length > KEPT) each.shift();
      numbers.forEach((each, index) => setText(values[index], each === null ? "–" : write(each)));
      setText(more, text);
      element.dataset.samples = data[0].length;
      if (!plot) chart.make();
      else plot.setData(data);
    },
    destroy: () => plot?.destroy(),
  };
  return chart;
}
