"use strict";

const EVERY_MS = 2000;
const PHASES = ["read", "queue", "visit", "parked", "answer", "tunnel", "notify"];
const PHASE_WORDS = {
  read: "request comes in", queue: "waits for a worker", visit: "at a worker", parked: "parked", answer: "response goes out",
  tunnel: "WebSocket", notify: "notifies a worker",
};
const BY = { C: "the client", W: "a worker", U: "the upstream", T: "Tarry", "-": "" };
/* What an operator can do about an end, by its word; where it depends on whose it is, by "LETTER word". */
const REMEDIES = {
  http_request_error: "The request was malformed, too large or too slow. The log line with this id says which limit it was.",
  destination_not_found: "No route leads there, or the route is internal. “tarry --explain URL” shows what a request gets.",
  connection_limit_reached: "The queue was full, or no worker became free in time. Add workers and slots, or raise queue_max or queue_timeout.",
  "W connection_refused": "No worker could be reached. Is the app running, and on the address in the conf? unreachable_wait bridges restarts.",
  "U connection_refused": "The service could not be reached. Check the origin, the network and the firewall.",
  "W http_response_incomplete": "The worker ended in the middle. Look for its time limit, a crash or memory in the app’s own log.",
  "U http_response_incomplete": "The service cut its answer short. An endpoint of another tier can stand in before the first content.",
  "W http_response_timeout": "The worker took longer than response_timeout. Hand the slow call off, or raise the limit.",
  "U http_response_timeout": "The service took longer than first_byte_timeout, first_content_timeout or total_timeout.",
  "T http_response_timeout": "The exchange took longer than exchange_max.",
  "W http_protocol_error": "The worker’s response is not HTTP. Is the address really the app’s?",
  "U http_protocol_error": "The service’s response is not HTTP. Is the scheme of the origin right?",
  handoff_malformed: "The app’s handoff cannot be read. The log line with this id names the field.",
  handoff_forbidden: "The app named an origin that the conf does not declare. Add an upstream section for it.",
  handoff_limit: "The app’s handoff is over a limit of the pool. The log line names it.",
  loop_detected: "The app handed off more often than max_hops allows. Does the view ask for ever?",
  dns_error: "The service’s name has no address. Check the name and the name servers.",
  tls_certificate_error: "The service’s certificate was not accepted. Check the name and ca_file.",
  tls_protocol_error: "TLS with the service failed. Is there a proxy in between?",
  "U connection_terminated": "The service cut the connection. If it happens often, lower connection_max_age or streams_per_connection.",
  "T connection_terminated": "An operator has ended it (tarryctl cancel).",
  connection_timeout: "Connecting to the service took longer than connect_timeout.",
  http_response_body_size_exceeded: "The service’s answer is larger than response_max.",
  http_response_content_coding: "The service’s answer is compressed in a way that cannot be undone here.",
  proxy_internal_error: "Tarry was short of memory or disk. See its log.",
  out_of_memory: "Tarry was short of memory.",
  client_gone: "The client left. If many do, look at how long they wait, and at the timeouts of what stands in front.",
  shutdown: "Tarry stopped before it was complete. Raise shutdown_timeout above the longest call.",
  idle_timeout: "Nothing came over the WebSocket for tunnel_idle_timeout.",
  complete: "The response is the app’s or the service’s own.",
};

const $ = (id) => document.getElementById(id);

function element(name, options = {}, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "class") e.className = value;
    else if (key === "text") e.textContent = value;
    else e.setAttribute(key, value);
  }
  e.append(...children);
  return e;
}

function put(id, text) {
  $(id).textContent = text;
}

function span(ms) {
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  if (ms < 60000) return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
  return `${Math.floor(ms / 60000)} min ${Math.round((ms % 60000) / 1000)} s`;
}

/* The text of /metrics as a list of { name, labels, value }. */
function parseMetrics(text) {
  const found = [];
  for (const line of text.split("\n")) {
    const m = /^([a-z_0-9]+)(?:\{(.*)\})? (\S+)$/i.exec(line);
    if (!m) continue;
    const labels = {};
    for (const [, key, value] of (m[2] || "").matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) labels[key] = value.replace(/\\(.)/g, "$1");
    found.push({ name: m[1], labels, value: Number(m[3]) });
  }
  return found;
}

class Metrics {
  constructor(list) {
    this.list = list;
  }

  all(name, want = {}) {
    return this.list.filter((m) => m.name === name && Object.entries(want).every(([k, v]) => m.labels[k] === v));
  }

  sum(name, want) {
    return this.all(name, want).reduce((n, m) => n + m.value, 0);
  }

  names(name, label) {
    return [...new Set(this.all(name).map((m) => m.labels[label]))];
  }
}

/* ---- tiles ---- */

let before = null;

function showTiles(data, metrics) {
  const parked = metrics.sum("tarry_exchanges", { state: "parked" });
  const busy = metrics.sum("tarry_pool_slots", { which: "busy" });
  const slots = metrics.sum("tarry_pool_slots", { which: "all" });
  const queued = metrics.sum("tarry_pool_queue");
  const responses = metrics.sum("tarry_responses_total");
  const failed = metrics.sum("tarry_responses_total", { class: "5xx" });
  const oldest = data.flying.filter((r) => r.state === "parked").sort((a, b) => a.started_ms - b.started_ms)[0];
  const last = data.history[data.history.length - 1];

  put("parked", parked);
  put("parked-note", oldest ? `the longest for ${span(data.now_ms - oldest.started_ms)}` : "");
  put("busy", `${busy} of ${slots}`);
  put("busy-note", `${busy + parked} would be busy if they waited themselves`);
  put("queue", queued);
  put("queue-note", last ? `95 % wait less than ${span(Math.max(1, last.queue_p95))}` : "");
  if (before && data.now_ms > before.now && responses >= before.responses) {
    const seconds = (data.now_ms - before.now) / 1000;
    put("rate", ((responses - before.responses) / seconds).toFixed(1));
    put("rate-note", `${((failed - before.failed) / seconds).toFixed(1)} of them 5xx`);
  }
  before = { now: data.now_ms, responses, failed };
}

/* ---- lines ---- */

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 320;
const HEIGHT = 120;

function svg(name, attributes, text) {
  const e = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  if (text !== undefined) e.textContent = text;
  return e;
}

function line(points, key, from, to, top) {
  const x = (p) => 34 + ((p.t - from) / Math.max(1, to - from)) * (WIDTH - 36);
  const y = (p) => HEIGHT - 14 - (p[key] / top) * (HEIGHT - 22);
  return points.map((p) => `${x(p).toFixed(1)},${y(p).toFixed(1)}`).join(" ");
}

/* Two lines over the last ten minutes: `a` drawn through, `b` dashed. */
function chart(id, points, a, b, format) {
  const figure = $(id);
  const to = points.length ? points[points.length - 1].t : Date.now();
  const from = to - 600000;
  const top = Math.max(...points.map((p) => Math.max(p[a.key], p[b.key])), 0) * 1.1 || 1;
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", preserveAspectRatio: "none" });
  const now = points[points.length - 1];
  const words = now ? `${a.word} ${format(now[a.key])}, ${b.word} ${format(now[b.key])}` : "nothing yet";

  picture.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}: now ${words}`);
  for (const part of [0, 0.5, 1]) {
    const y = HEIGHT - 14 - part * (HEIGHT - 22);
    picture.append(svg("line", { class: "grid", x1: 34, x2: WIDTH - 2, y1: y, y2: y }));
    picture.append(svg("text", { x: 30, y: y + 3, "text-anchor": "end" }, format(top * part)));
  }
  picture.append(svg("text", { x: 34, y: HEIGHT - 2 }, "10 min ago"));
  picture.append(svg("text", { x: WIDTH - 2, y: HEIGHT - 2, "text-anchor": "end" }, "now"));
  picture.append(svg("polyline", { class: "b", points: line(points, b.key, from, to, top) }));
  picture.append(svg("polyline", { class: "a", points: line(points, a.key, from, to, top) }));
  for (const old of figure.querySelectorAll("svg, .legend")) old.remove();
  figure.append(picture, element("p", { class: "legend", text: `— ${a.word}   - - ${b.word}   now: ${words}` }));
}

function showCharts(data) {
  const brief = (ms) => (ms === 0 ? "0" : span(ms));
  const number = (n) => String(Math.round(n));
  chart("chart-first", data.history, { key: "first_content_p50", word: "median" }, { key: "first_content_p95", word: "95 %" }, brief);
  chart("chart-call", data.history, { key: "call_p50", word: "median" }, { key: "call_p95", word: "95 %" }, brief);
  chart("chart-load", data.history, { key: "parked", word: "parked" }, { key: "busy", word: "busy" }, number);
}

/* ---- tables ---- */

function fill(id, rows, empty) {
  const body = $(id).querySelector("tbody");
  body.replaceChildren(...rows.map((cells) => element("tr", {}, ...cells)));
  if (!rows.length) body.append(element("tr", {}, element("td", { class: "empty", colspan: "9", text: empty })));
}

const cell = (text, kind = "") => element("td", { class: kind, text: String(text) });

const isFailure = (outcome) => !/^[123]xx$/.test(outcome) && outcome !== "cancelled" && outcome !== "4xx";

function stateOf(metrics, upstream, endpoint) {
  const states = metrics.all("tarry_endpoint_state", { upstream, endpoint }).filter((m) => m.value > 0);
  const state = states.map((m) => m.labels.state).find((s) => s) || "ready";
  return cell(state, state === "ready" || state === "ok" ? "good" : "bad");
}

function showUpstreams(metrics) {
  const rows = [];
  for (const upstream of metrics.names("tarry_upstream_connections", "upstream")) {
    const attempts = metrics.all("tarry_upstream_attempts_total", { upstream });
    const endpoints = [...new Set(attempts.map((m) => m.labels.endpoint))];
    for (const endpoint of endpoints.length ? endpoints : [upstream]) {
      const mine = attempts.filter((m) => m.labels.endpoint === endpoint);
      const failures = mine.filter((m) => m.value > 0 && isFailure(m.labels.outcome)).sort((a, b) => b.value - a.value);
      const all = mine.reduce((n, m) => n + m.value, 0);
      const failed = failures.reduce((n, m) => n + m.value, 0);
      const once = endpoint === (endpoints[0] || upstream);
      rows.push([cell(once ? upstream : ""), cell(endpoint), stateOf(metrics, upstream, endpoint),
        cell(once ? metrics.sum("tarry_upstream_streams", { upstream }) : "", "n"),
        cell(once ? metrics.sum("tarry_upstream_waiting", { upstream }) : "", "n"),
        cell(once ? metrics.sum("tarry_upstream_connections", { upstream }) : "", "n"),
        cell(all, "n"), cell(failed, failed ? "n bad" : "n"),
        cell(failures.map((m) => `${m.labels.outcome}: ${m.value}`).join(", "))]);
    }
  }
  fill("upstreams", rows, "The conf declares no upstream.");
}

function showPools(metrics) {
  const parked = metrics.sum("tarry_exchanges", { state: "parked" });
  const pools = metrics.names("tarry_pool_slots", "pool");
  const rows = pools.map((pool) => {
    const of = (name, which) => metrics.sum(name, { pool, which });
    const gone = of("tarry_pool_servers", "paused");
    const busy = of("tarry_pool_slots", "busy");
    return [cell(pool), cell(busy, "n"), cell(of("tarry_pool_slots", "all"), "n"), cell(pools.length === 1 ? busy + parked : "–", "n"),
      cell(of("tarry_pool_queue", "new"), "n"), cell(of("tarry_pool_queue", "resume"), "n"),
      gone ? cell(`${gone} of ${of("tarry_pool_servers", "all")} cannot be reached`, "bad") : cell(`${of("tarry_pool_servers", "all")} reached`, "good")];
  });
  fill("pools", rows, "The conf has no pool of workers.");
}

/* ---- exchanges ---- */

function bar(record) {
  const all = Math.max(1, record.total_us);
  const e = element("span", { class: "bar", "aria-hidden": "true" });
  for (const [kind, , took] of record.phases) {
    if (!PHASES.includes(kind)) continue;
    const part = element("span", { class: kind, title: `${PHASE_WORDS[kind]}: ${span(took / 1000)}` });
    part.style.width = `${(100 * took) / all}%`;
    e.append(part);
  }
  return e;
}

function remedy(record) {
  return REMEDIES[`${record.code[0]} ${record.end}`] || REMEDIES[record.end] || "";
}

function facts(record, failed) {
  const list = element("dl");
  const add = (name, value) => value && list.append(element("dt", { text: name }), element("dd", { text: value }));
  add("Exchange", record.id);
  add("Began", new Date(record.started_ms).toISOString());
  add("Route", record.route);
  add("Upstream", record.upstream && record.endpoint && record.endpoint !== record.upstream ? `${record.upstream}, ${record.endpoint}` : record.upstream);
  add("Label", record.label);
  if (failed) {
    add("Ended by", record.code === "--" ? "nobody: it is complete" : `${BY[record.code[0]]} (${record.end}, ${record.code})`);
    add("Remedy", remedy(record));
  }
  add("Way", record.phases.map(([kind, , took, status]) => `${PHASE_WORDS[kind] || kind} ${span(took / 1000)}${status ? ` (${status})` : ""}`).join(" → "));
  add("Process", String(record.pid));
  return list;
}

const open = new Set();

function exchangeRow(list, record, failed) {
  const key = `${list} ${record.id}`;
  const flying = list === "flying";
  const row = element("details", {},
    element("summary", {},
      element("span", { class: "took", text: span(record.total_us / 1000) }),
      element("span", { class: "path", text: `${record.method} ${record.path}` }),
      element("span", { class: `end ${!flying && (record.status >= 500 || record.code !== "--") ? "bad" : ""}`,
        text: flying ? record.state : `${record.status || "–"} ${record.code === "--" ? "" : record.end}` }),
      bar(record)),
    facts(record, failed));
  row.open = open.has(key);
  row.addEventListener("toggle", () => (row.open ? open.add(key) : open.delete(key)));
  return row;
}

function showExchanges(id, records, empty) {
  const list = $(id);
  const focused = document.activeElement && list.contains(document.activeElement) ? document.activeElement.closest("details") : null;
  const at = focused ? focused.dataset.id : null;
  list.replaceChildren(...records.map((r) => {
    const row = exchangeRow(id, r, id === "failed");
    row.dataset.id = r.id;
    return row;
  }));
  if (!records.length) list.append(element("p", { class: "empty", text: empty }));
  const again = at && [...list.children].find((row) => row.dataset.id === at);
  if (again) again.querySelector("summary").focus({ preventScroll: true });
}

/* ---- the whole ---- */

function show(data, metrics) {
  const build = metrics.all("tarry_build_info")[0];
  const processes = metrics.sum("tarry_processes");
  const memory = metrics.sum("tarry_resident_memory_bytes") / 1048576;
  put("about", `${build ? build.labels.version : data.version} · ${processes} process${processes === 1 ? "" : "es"} · ` +
    `${memory.toFixed(0)} MiB · ${metrics.sum("tarry_client_connections_open")} clients connected${data.stopping ? " · stopping" : ""}`);
  showTiles(data, metrics);
  showCharts(data);
  showUpstreams(metrics);
  showPools(metrics);
  showExchanges("flying", data.flying.sort((a, b) => a.started_ms - b.started_ms).slice(0, 12), "Nothing is in flight.");
  showExchanges("slow", data.slow.filter((r) => data.now_ms - r.started_ms - r.total_us / 1000 < 600000)
    .sort((a, b) => b.total_us - a.total_us).slice(0, 12), "Nothing has ended yet.");
  showExchanges("failed", data.failed.sort((a, b) => b.started_ms - a.started_ms).slice(0, 20), "Nothing has failed.");
  $("errors").replaceChildren(...data.errors.reverse().map((text) => element("li", { text })));
  if (!data.errors.length) $("errors").append(element("li", { class: "empty", text: "No warnings." }));
}

async function load(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
}

let paused = false;

async function refresh() {
  if (!paused && !document.hidden) {
    try {
      const [data, metrics] = await Promise.all([load("dashboard.json").then((r) => r.json()), load("metrics").then((r) => r.text())]);
      $("alarm").hidden = true;
      show(data, new Metrics(parseMetrics(metrics)));
    } catch (e) {
      $("alarm").textContent = `Tarry does not answer (${e.message}). What is below is old.`;
      $("alarm").hidden = false;
    }
  }
  setTimeout(refresh, EVERY_MS);
}

function pause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
}

$("pause").addEventListener("click", pause);
document.addEventListener("keydown", (e) => {
  if (e.key.toLowerCase() === "p" && !e.ctrlKey && !e.metaKey && !e.altKey) pause();
});
$("key").append(...PHASES.flatMap((kind) => [element("i", { class: kind }), PHASE_WORDS[kind]]));
refresh();
