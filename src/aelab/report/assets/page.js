(() => {
"use strict";
// One state; every control changes it and calls what it concerns.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value; else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};
const thousands = n => Number(n).toLocaleString("en-US", {maximumFractionDigits: 0});
const digits = v => v === null || v === undefined ? "not a number" : String(+Number(v).toPrecision(6));
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");

const state = {visible: new Set(data.runs.keys()), picked: new Set(), focus: -1, colourBy: ""};

// --- colours and dashes

const lighter = {"#0072b2": "#3fa2e0", "#767676": "#a2a8b0", "#d55e00": "#ef7f2a", "#009e73": "#22bd91"};
const adapt = colour => dark.matches ? lighter[colour] || brighten(colour) : colour;
function brighten(colour) {
  const parts = [1, 3, 5].map(i => parseInt(colour.slice(i, i + 2), 16));
  const light = 0.3 * parts[0] + 0.59 * parts[1] + 0.11 * parts[2];
  const lift = light < 110 ? 0.35 : 0;
  return "#" + parts.map(p => Math.round(p + (255 - p) * lift).toString(16).padStart(2, "0")).join("");
}
const groupOf = run => data.runs[run].matrix[state.colourBy] ?? "";
const colourOf = run => adapt(state.colourBy ? data.groups[state.colourBy][groupOf(run)] : data.runs[run].colour);
const restOf = run => data.rest[state.colourBy]?.[run] ?? "";
const restDash = run => data.dashes[[...new Set(data.rest[state.colourBy])].indexOf(restOf(run)) % data.dashes.length];
const dashOf = run => state.colourBy ? restDash(run) : data.runs[run].dash;

// --- table: sort, filter, highlight

function sortBy(table, header) {
  const headers = all("th", table), column = headers.indexOf(header);
  const before = header.getAttribute("aria-sort");
  const now = before === "ascending" ? "descending" : before === "descending" ? "none" : "ascending";
  headers.forEach(other => other.setAttribute("aria-sort", "none"));
  header.setAttribute("aria-sort", now);
  const body = find("tbody", table), rows = all("tr", body);
  const key = row => row.cells[column].dataset.sort;
  const numeric = rows.every(row => key(row) === "" || !Number.isNaN(Number(key(row))));
  const sign = now === "descending" ? -1 : 1;
  rows.sort((a, b) => {
    const place = a.dataset.place - b.dataset.place;
    if (now === "none") return place;
    const x = key(a), y = key(b);
    const group = "inGroups" in header.dataset ? a.dataset.group - b.dataset.group : 0;  // losses that do not compare
    if (group) return group;
    if (x === "" || y === "") return (x === "") - (y === "") || place;  // empty cells come last
    const order = numeric ? x - y : x.localeCompare(y, "en", {numeric: true});
    return sign * order || place;
  });
  body.append(...rows);
  if (table === find("#each table")) drawPictures();
}

function applyFilter() {
  const words = find("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const keys = all("select.key").filter(s => s.value).map(s => [s.dataset.key, s.value.slice(1)]);
  const fits = row => {
    const text = (row.dataset.words + " " + row.textContent).toLowerCase();
    return words.every(word => text.includes(word));
  };
  const allowed = run => keys.every(([key, value]) => (data.runs[run].matrix[key] ?? "") === value);
  const runsOf = row => row.dataset.runs.split(" ").map(Number);
  state.visible = new Set();
  for (const row of all("#each tbody tr")) {
    const run = runsOf(row)[0];
    row.hidden = !(allowed(run) && fits(row));
    if (!row.hidden) state.visible.add(run);
  }
  for (const row of all("#merged tbody tr")) row.hidden = !runsOf(row).some(run => state.visible.has(run));
  for (const box of all("details.run")) box.hidden = !state.visible.has(Number(box.dataset.run));
  find("#count").textContent = `${state.visible.size} of ${data.runs.length} runs`;
  drawLegend(); drawCurves(true); drawPictures();
}

function setFocus(run) {
  if (run === state.focus) return;
  state.focus = run;
  showMarks(); drawCurves(false);
}
function togglePick(runs) {
  const every = runs.every(run => state.picked.has(run));
  runs.forEach(run => every ? state.picked.delete(run) : state.picked.add(run));
  showMarks(); drawCurves(false);
}
function showMarks() {
  for (const node of all("[data-runs]")) {
    const runs = node.dataset.runs.split(" ").map(Number);
    const picked = runs.some(run => state.picked.has(run));
    node.classList.toggle("focus", runs.includes(state.focus));
    node.classList.toggle("picked", picked);
    const button = node.matches("button") ? node : find(".pick", node);
    if (button) button.setAttribute("aria-pressed", String(picked));
  }
}

function startTables() {
  for (const table of all("table.runs")) {
    for (const header of all("th", table)) find("button", header).addEventListener("click", () => sortBy(table, header));
    for (const row of all("tbody tr", table)) {
      const runs = row.dataset.runs.split(" ").map(Number);
      row.addEventListener("mouseenter", () => setFocus(runs[0]));
      row.addEventListener("mouseleave", () => setFocus(-1));
      row.addEventListener("click", () => { if (!String(getSelection())) togglePick(runs); });
    }
  }
  find("#filter").addEventListener("input", applyFilter);
  all("select.key").forEach(select => select.addEventListener("change", applyFilter));
  find("#merge")?.addEventListener("change", event => {
    find("#merged").hidden = !event.target.checked;
    find("#each").hidden = event.target.checked;
  });
}

// --- curves: uPlot for axes, zoom and cursor; the lines are drawn here, because each has its own clock

const charts = [];
const setting = id => find("#" + id)?.value;
const isOn = id => Boolean(find("#" + id)?.checked);

function curve(run, split) {
  const columns = data.curves[run][split], term = setting("term"), clock = setting("clock");
  return columns && columns[term] ? {x: columns[clock], y: columns[term]} : {x: [], y: []};
}
function ranges(split) {
  let low = Infinity, high = -Infinity, first = Infinity, last = -Infinity;
  for (const run of state.visible) {
    const {x, y} = curve(run, split);
    for (let i = 0; i < x.length; i++) {
      if (x[i] === null || y[i] === null || (isOn("logy") && y[i] <= 0) || (isOn("logx") && x[i] <= 0)) continue;
      if (y[i] < low) low = y[i];
      if (y[i] > high) high = y[i];
      if (x[i] < first) first = x[i];
      if (x[i] > last) last = x[i];
    }
  }
  return {low, high, first, last};
}
function fullView(parts) {
  const low = Math.min(...parts.map(p => p.low)), high = Math.max(...parts.map(p => p.high));
  const first = Math.min(...parts.map(p => p.first)), last = Math.max(...parts.map(p => p.last));
  if (!(high >= low)) return {x: isOn("logx") ? [1, 10] : [0, 1], y: isOn("logy") ? [0.1, 1] : [0, 1]};
  const wide = Math.max((high - low) * 0.05, Math.abs(high) * 1e-6, 1e-12);
  const ratio = Math.max((high / low) ** 0.05, 1.000001);
  const y = isOn("logy") ? [low / ratio, high * ratio] : [low - wide, high + wide];
  const x = isOn("logx") ? [first === last ? first / 2 : first, last * 1.05] : [0, last * 1.02 || 1];
  return {x, y};
}
function logHelps() {
  if ((data.units[setting("term")] || "").startsWith("share")) return false;
  const parts = ["train", "validation"].map(split => {
    let low = Infinity, high = -Infinity;
    for (const run of data.runs.keys()) for (const v of curve(run, split).y) if (v !== null) { low = Math.min(low, v); high = Math.max(high, v); }
    return [low, high];
  });
  const low = Math.min(...parts.map(p => p[0])), high = Math.max(...parts.map(p => p[1]));
  return low > 0 && high / low > 8;
}
const short = v => Math.abs(v) >= 1e9 ? +(v / 1e9).toPrecision(4) + "G" : Math.abs(v) >= 1e6 ? +(v / 1e6).toPrecision(4) + "M" : Math.abs(v) >= 1e3 ? +(v / 1e3).toPrecision(4) + "k" : String(+v.toPrecision(4));
// Ticks of a logarithmic axis: 1, 2, 5 of each decade; even steps where less than a decade is seen.
function logSplits(low, high) {
  const ticks = [];
  if (high / low < 9) {
    const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= rough);
    for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(+(i * step).toPrecision(12));
    return ticks;
  }
  const digits = high / low > 2e4 ? [1] : [1, 2, 5];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
    for (const m of digits) ticks.push(+(m * 10 ** e).toPrecision(12));
  }
  return ticks.filter(tick => tick >= low && tick <= high);
}

function drawLines(u, split) {
  const {ctx, bbox} = u;
  const strong = run => state.picked.has(run) || run === state.focus;
  const some = state.picked.size > 0 || state.focus >= 0;
  const order = [...state.visible].sort((a, b) => strong(a) - strong(b) || b - a);
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.lineJoin = "round";
  for (const run of order) {
    ctx.globalAlpha = some && !strong(run) ? 0.16 : 1;
    ctx.strokeStyle = ctx.fillStyle = colourOf(run);
    ctx.lineWidth = (strong(run) ? 2.4 : 1.4) * devicePixelRatio;
    ctx.setLineDash(dashOf(run).map(part => part * 1.4 * devicePixelRatio));
    drawOne(u, curve(run, split));
  }
  ctx.restore();
}
function drawOne(u, {x, y}) {
  const {ctx} = u, {min, max} = u.scales.x;
  const log = isOn("logy"), logx = isOn("logx");
  let pen = false, last = -1, drawn = 0;
  ctx.beginPath();
  for (let i = 0; i < x.length; i++) {
    const good = y[i] !== null && x[i] !== null && !(log && y[i] <= 0) && !(logx && x[i] <= 0);
    if (!good) { pen = false; continue; }
    last = i;
    if ((x[i + 1] ?? Infinity) < min || (x[i - 1] ?? -Infinity) > max) { pen = false; continue; }
    const px = u.valToPos(x[i], "x", true), py = u.valToPos(y[i], "y", true);
    if (pen) ctx.lineTo(px, py); else ctx.moveTo(px, py);
    pen = true;
    drawn++;
  }
  ctx.stroke();
  if (last < 0) return;
  const px = u.valToPos(x[last], "x", true), py = u.valToPos(y[last], "y", true), r = 4 * devicePixelRatio;
  ctx.setLineDash([]);
  if (last < y.length - 1) {  // it stopped being a number: a cross
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(px - r, py - r); ctx.lineTo(px + r, py + r);
    ctx.moveTo(px - r, py + r); ctx.lineTo(px + r, py - r);
    ctx.stroke();
  } else if (drawn === 1) {
    ctx.beginPath();
    ctx.arc(px, py, r * 0.8, 0, 7);
    ctx.fill();
  }
}

function nearest(u, split) {
  const {left, top} = u.cursor;
  if (left === null || left < 0) return null;
  let best = null, bestDistance = 26 * 26;
  for (const run of state.visible) {
    const {x, y} = curve(run, split);
    let low = 0, high = x.length;
    const at = u.posToVal(left, "x");
    while (low < high) { const mid = (low + high) >> 1; if (x[mid] < at) low = mid + 1; else high = mid; }
    for (const i of [low - 1, low]) {
      if (i < 0 || i >= x.length || y[i] === null) continue;
      const px = u.valToPos(x[i], "x"), py = u.valToPos(y[i], "y");
      const other = i === low - 1 ? low : low - 1;
      let distance = (px - left) ** 2 + (py - top) ** 2;
      if (other >= 0 && other < x.length && y[other] !== null) {  // between two points: the line counts
        const qx = u.valToPos(x[other], "x"), qy = u.valToPos(y[other], "y");
        if (qx !== px) distance = Math.min(distance, (py + (qy - py) * (left - px) / (qx - px) - top) ** 2);
      }
      if (distance < bestDistance) { bestDistance = distance; best = {run, i, x: x[i], y: y[i]}; }
    }
  }
  return best;
}
function showTip(u, split) {
  const tip = find("#tip"), hit = nearest(u, split);
  setFocus(hit ? hit.run : -1);
  tip.hidden = !hit;
  if (!hit) return;
  const clock = setting("clock") === "images" ? `${thousands(hit.x)} images` : `${digits(hit.x)} s`;
  tip.replaceChildren(make("strong", {text: data.runs[hit.run].label}), `${split} ${setting("term")} ${digits(hit.y)} after ${clock}`);
  const box = u.over.getBoundingClientRect();
  const left = box.left + u.cursor.left + 14, top = box.top + u.cursor.top + 14;
  tip.style.left = Math.min(left, innerWidth - tip.offsetWidth - 8) + "px";
  tip.style.top = Math.min(top, innerHeight - tip.offsetHeight - 8) + "px";
}

function axis(label, log, side) {
  const look = {stroke: style("--faint"), font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", grid: {stroke: style("--grid"), width: 1}, ticks: {stroke: style("--line"), width: 1, size: 5}, label, labelSize: 22};
  const ticks = log ? {splits: (u, index, low, high) => logSplits(low, high), filter: (u, splits) => splits} : {};
  return {...look, ...ticks, side, size: side === 3 ? 62 : 36, space: side === 3 ? 34 : 64, values: (u, values) => values.map(v => v === null ? "" : short(v))};
}
function makeChart(host) {
  const split = host.dataset.split;
  const term = setting("term"), unit = data.units[term];
  const clock = setting("clock") === "images" ? "images seen" : "training seconds";
  const width = Math.max(host.clientWidth - 18, 200);
  const scale = log => ({time: false, auto: false, distr: log ? 3 : 1});
  const u = new uPlot({
    width, height: Math.max(280, Math.min(430, width * 0.62)),
    scales: {x: scale(isOn("logx")), y: scale(isOn("logy"))},
    legend: {show: false},
    series: [{}, {paths: () => null, points: {show: false}}],
    axes: [axis(clock, isOn("logx"), 2), axis(unit ? `${term} (${unit})` : term, isOn("logy"), 3)],
    cursor: {points: {show: false}, drag: {x: true, y: true, uni: 24, dist: 6, setScale: false}, bind: {dblclick: () => () => { resetZoom(); return null; }}},
    hooks: {
      drawAxes: [u => drawLines(u, split)],
      setCursor: [u => showTip(u, split)],
      setSelect: [u => zoomTo(u)],
    },
  }, [[0, 1], [null, null]], host);
  u.over.setAttribute("aria-label", `${split} ${term}: one line a run`);
  u.over.setAttribute("role", "img");
  u.over.addEventListener("mouseleave", () => { find("#tip").hidden = true; setFocus(-1); });
  let down = null;
  u.over.addEventListener("mousedown", event => { down = [event.clientX, event.clientY]; });
  u.over.addEventListener("click", event => {
    if (down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < 5 && state.focus >= 0) togglePick([state.focus]);
  });
  charts.push({u, split, host});
}
function zoomTo(u) {
  const {left, top, width, height} = u.select;
  if (width < 3 && height < 3) return;
  const full = {w: u.over.clientWidth, h: u.over.clientHeight};
  const x = width >= 3 && width < full.w ? [u.posToVal(left, "x"), u.posToVal(left + width, "x")] : null;
  const y = height >= 3 && height < full.h ? [u.posToVal(top + height, "y"), u.posToVal(top, "y")] : null;
  u.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
  state.zoom = {x: x || state.zoom?.x, y: y || state.zoom?.y};
  drawCurves(true);
}
function resetZoom() { state.zoom = null; drawCurves(true); }

function buildCharts() {
  if (!find("#charts")) return;
  charts.splice(0).forEach(({u, host}) => { u.destroy(); host.remove(); });
  const chosen = setting("split"), term = setting("term");
  const has = split => data.curves.some(run => run[split]?.[term]?.length);
  const splits = (chosen === "both" ? ["train", "validation"] : [chosen]).filter(has);
  const hosts = splits.map(split => make("div", {class: "chart", "data-split": split}, make("h3", {text: split})));
  find("#charts").replaceChildren(...hosts);  // both first: each one's width depends on the other
  hosts.forEach(makeChart);
  if (!hosts.length) find("#charts").append(make("p", {class: "empty", text: `${term} was not logged there.`}));
  drawCurves(true);
}
function drawCurves(rescale) {
  if (!charts.length) return;
  if (rescale) {
    const view = fullView(charts.map(({split}) => ranges(split)));
    const x = state.zoom?.x || view.x, y = state.zoom?.y || view.y;
    for (const {u} of charts) u.batch(() => { u.setScale("x", {min: x[0], max: x[1]}); u.setScale("y", {min: y[0], max: y[1]}); });
  }
  charts.forEach(({u}) => u.redraw(false, true));
}

function drawLegend() {
  const box = find("#legend");
  if (!box) return;
  const chip = (label, runs, colour, dash) => {
    const line = `<svg width="26" height="8" aria-hidden="true"><line x1="0" y1="4" x2="26" y2="4" stroke-width="2.4"/></svg>`;
    const button = make("button", {type: "button", "data-runs": runs.join(" "), "aria-pressed": "false", title: label});
    button.innerHTML = line;  // constant text; the values below are set as attributes and text
    find("line", button).setAttribute("stroke", colour);
    find("line", button).setAttribute("stroke-dasharray", dash.map(part => part * 1.2).join(" "));
    button.append(make("span", {text: label}));
    button.addEventListener("mouseenter", () => setFocus(runs.length === 1 ? runs[0] : -1));
    button.addEventListener("mouseleave", () => setFocus(-1));
    button.addEventListener("click", () => togglePick(runs));
    return button;
  };
  const visible = [...state.visible].sort((a, b) => a - b);
  const title = state.colourBy || data.heading;
  box.replaceChildren(...(title ? [make("h3", {text: title})] : []));
  if (state.colourBy) {
    for (const value of Object.keys(data.groups[state.colourBy])) {
      const runs = visible.filter(run => groupOf(run) === value);
      if (runs.length) box.append(chip(`${value || "(none)"} (${runs.length})`, runs, colourOf(runs[0]), []));
    }
    const rests = [...new Set(visible.map(restOf))];  // the other keys: a dash each
    for (const rest of rests.length > 1 ? rests : []) {
      const runs = visible.filter(run => restOf(run) === rest);
      box.append(chip(rest || "(none)", runs, style("--faint"), dashOf(runs[0])));
    }
  } else {
    const drawn = run => Object.values(data.curves[run]).some(split => split.images.length);
    for (const run of visible.filter(drawn)) box.append(chip(data.runs[run].label, [run], colourOf(run), dashOf(run)));
  }
  showMarks();
}

function startCurves() {
  if (!find("#term")) return;
  const fresh = () => { state.zoom = null; find("#logy").checked = logHelps(); buildCharts(); };
  find("#term").addEventListener("change", fresh);
  find("#clock").addEventListener("change", () => { state.zoom = null; buildCharts(); });
  ["split", "logy", "logx"].forEach(id => find("#" + id).addEventListener("change", () => { state.zoom = null; buildCharts(); }));
  find("#colour").addEventListener("change", event => { state.colourBy = event.target.value; drawLegend(); drawCurves(false); });
  find("#reset").addEventListener("click", resetZoom);
  let timer = 0;
  addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => { buildCharts(); drawPictures(); }, 120); });
  dark.addEventListener("change", () => { drawLegend(); buildCharts(); });
  fresh();
}

// --- reproductions

const image = address => new Promise((resolve, reject) => {
  const node = new Image();
  node.onload = () => resolve(node);
  node.onerror = reject;
  node.src = address;
});
async function difference(first, second) {
  const [a, b] = await Promise.all([image(first), image(second)]);
  const canvas = make("canvas");
  canvas.width = Math.min(a.width, b.width);
  canvas.height = Math.min(a.height, b.height);
  const pixels = node => {
    const context = canvas.getContext("2d", {willReadFrequently: true});
    context.drawImage(node, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  };
  const left = pixels(a).data, right = pixels(b);
  for (let i = 0; i < left.length; i++) if (i % 4 < 3) right.data[i] = 3 * Math.abs(left[i] - right.data[i]);
  canvas.getContext("2d").putImageData(right, 0, 0);
  return canvas.toDataURL();
}
function frameAt(frames, moment) {
  let found = null;
  for (const frame of frames) if (frame[0] <= moment) found = frame;
  return found;
}
function scaleFor(group) {
  const wanted = Number(setting("scale"));
  if (wanted) return wanted;
  const room = find("#pictures").clientWidth - (innerWidth > 720 ? 250 : 0);
  return Math.max(1, Math.min(6, Math.floor(room / (group.width * group.count))));
}
function strip(group, source, label) {
  const scale = scaleFor(group);
  const node = make("img", {class: "strip", alt: label, width: group.width * group.count * scale, height: group.height * scale});
  if (source !== null) node.src = source;
  const width = group.width * scale;  // a hair line between images, where a pixel is wider than it
  if (scale > 1) node.style.maskImage = `repeating-linear-gradient(90deg, #000 0 ${width - 1}px, transparent 0 ${width}px)`;
  return node;
}
function drawPictures() {
  const host = find("#pictures");
  if (!host) return;
  const split = setting("pictures-split"), shown = data.reproductions[split];
  const moments = shown.steps, slider = find("#moment");
  slider.max = Math.max(moments.length - 1, 0);
  if (slider.dataset.split !== split) { slider.value = slider.max; slider.dataset.split = split; }
  const moment = moments[slider.value] ?? 0;
  find("#moment-text").textContent = `${thousands(moment)} images`;
  slider.setAttribute("aria-valuetext", `${thousands(moment)} images`);
  const order = new Map(all("#each tbody tr").map((row, place) => [Number(row.dataset.runs), place]));
  const blocks = shown.groups.map(group => {
    const runs = group.runs.filter(entry => state.visible.has(entry.run) && entry.frames.length);
    runs.sort((a, b) => order.get(a.run) - order.get(b.run));
    return runs.length ? pictureGroup(group, runs, moments, moment, split) : null;
  }).filter(Boolean);
  host.replaceChildren(...blocks);
  if (!blocks.length) host.append(make("p", {class: "empty", text: "No reproductions of these runs are stored yet."}));
  showMarks();
}
function pictureGroup(group, runs, moments, moment, split) {
  const what = split === "heldout" ? "held-out images" : "training images";
  const original = data.pictures[group.originals];
  const block = make("div", {class: "group"});
  const first = make("div", {class: "who first"}, make("span", {text: `originals, ${group.width}×${group.height}`}));
  if (data.heading) first.append(make("small", {text: `below: ${data.heading}`}));
  block.append(first, strip(group, original, `original ${what}`));
  block.lastChild.classList.add("first");
  for (const entry of runs) {
    const frame = frameAt(entry.frames, moment), label = data.runs[entry.run].label;
    const loss = data.runs[entry.run].loss;
    const when = !frame ? "not yet" : frame[0] !== moment ? `after ${thousands(frame[0])}` : moment === moments.at(-1) && loss !== null ? `loss ${digits(loss)}` : "";
    if ((entry.inputs ?? null) !== null) {  // what a model that hides parts of its images sees
      const seen = make("div", {class: "who", "data-runs": entry.run}, make("span", {text: `${label}, masked input`}));
      block.append(seen, strip(group, data.pictures[entry.inputs], `${label}: masked input, ${what}`));
    }
    const who = make("div", {class: "who", "data-runs": entry.run}, make("span", {text: label}));
    if (when) who.append(make("small", {text: when}));
    who.addEventListener("mouseenter", () => setFocus(entry.run));
    who.addEventListener("mouseleave", () => setFocus(-1));
    const alt = frame ? `${label}: ${what} after ${thousands(frame[0])} images` : `${label}: no reproductions yet`;
    const node = strip(group, frame && !isOn("difference") ? data.pictures[frame[1]] : null, alt);
    if (frame && isOn("difference")) difference(original, data.pictures[frame[1]]).then(address => { node.src = address; });
    block.append(who, node);
  }
  return block;
}
function startPictures() {
  if (!find("#pictures")) return;
  ["pictures-split", "scale", "difference"].forEach(id => find("#" + id).addEventListener("change", drawPictures));
  find("#moment").addEventListener("input", drawPictures);
  const button = find("#play"), slider = find("#moment");
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; button.textContent = "Play"; button.setAttribute("aria-pressed", "false"); };
  button.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    button.textContent = "Stop";
    button.setAttribute("aria-pressed", "true");
    drawPictures();
    timer = setInterval(() => {
      if (slider.value === slider.max) return stop();
      slider.value = Number(slider.value) + 1;
      drawPictures();
    }, 600);
  });
  drawPictures();
}

find("#unfold").addEventListener("click", event => {
  const open = event.target.textContent === "Open all";
  all("details.run").forEach(box => { box.open = open; });
  event.target.textContent = open ? "Close all" : "Open all";
});
startTables();
startCurves();
startPictures();
drawLegend();
document.documentElement.dataset.ready = "yes";
})();
