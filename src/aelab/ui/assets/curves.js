// Curves of the drawn runs: training and validation, groups as a mean with a band, forecasts as a fan.
import {ask, named, newest} from "./asking.js";
import {styles} from "./colours.js";
import {count, digits, find, make, options, short, swatch, tick} from "./dom.js";
import {highlight, highlighted, onHighlight} from "./highlight.js";
import {drawn, groupOf, label, runs} from "./runs.js";
import {change, state} from "./state.js";

/* global uPlot */
let told = {terms: ["loss"], curves: {}, trends: {}, forecasts: {}}, charts = [], first = newest();
const zooms = new Map();  // split and clock -> what is seen of x, so that a live change keeps it

export async function refreshCurves() {
  const shown = drawn().map(run => run.folder);
  const found = await first(shown.length ? ask("/api/curves", [...named(shown), ["term", state.term], ["clock", state.clock]]) : Promise.resolve({terms: ["loss"], curves: {}, trends: {}, forecasts: {}}));
  if (!found) return;
  told = found;
  options(find("#term"), told.terms.map(term => [term, term]), state.term);
  drawCurves();
}

/** The lines of one chart: {key, label, style, x, y, low, high, run}. */
function linesOf(split, shown, style) {
  const have = shown.filter(run => told.curves[run.folder]?.[split]?.[0].length), logged = y => state.linear || y > 0;
  const alone = run => {
    const [x, y] = told.curves[run.folder][split];
    return {key: run.folder, run, label: label(run), style: style.get(run.folder), x, y: y.map(value => logged(value) ? value : null)};
  };
  if (!state.group) return have.map(alone);
  const together = new Map();
  for (const run of have) together.set(groupOf(run), [...together.get(groupOf(run)) ?? [], run]);
  return [...together].map(([name, members]) => {
    if (members.length === 1) return {...alone(members[0]), label: name};
    return {key: name, members, label: `${name} (mean of ${members.length})`, style: style.get(members[0].folder), ...meanOf(members.map(run => told.curves[run.folder][split]))};
  });
}

/** The mean of several curves, and their lowest and highest values, up to where the shortest ends. */
function meanOf(curves) {
  const from = Math.max(...curves.map(([x]) => x[0])), to = Math.min(...curves.map(([x]) => x.at(-1)));
  const x = [...new Set(curves.flatMap(([each]) => each))].filter(at => at >= from && at <= to).sort((a, b) => a - b), places = curves.map(() => 0);
  const rows = x.map(at => curves.map(([xs, ys], n) => {
    while (places[n] < xs.length - 2 && xs[places[n] + 1] <= at) places[n]++;
    const i = places[n], j = Math.min(i + 1, xs.length - 1), part = xs[j] > xs[i] ? (at - xs[i]) / (xs[j] - xs[i]) : 0;
    return ys[i] + Math.min(Math.max(part, 0), 1) * (ys[j] - ys[i]);
  }));
  const mean = rows.map(row => row.reduce((sum, y) => sum + y, 0) / row.length);
  return {x, y: mean.map(y => state.linear || y > 0 ? y : null), low: rows.map(row => Math.min(...row)), high: rows.map(row => Math.max(...row))};
}

export function drawCurves() {
  const shown = drawn(), style = styles(shown), focused = document.activeElement?.dataset?.split;
  for (const chart of charts) chart.destroy();
  charts = [];
  find("#charts").replaceChildren();
  const panels = [["train", "Training"], ["validation", "Validation"]].map(([split, words]) => {
    const lines = linesOf(split, shown, style), box = make("div", {class: "plot"});
    return {split, lines, box, panel: make("figure", {class: "chart"}, make("h3", {text: `${words} ${state.term}`}), box), words};
  }).filter(each => each.lines.length);
  find("#charts").append(...panels.map(each => each.panel));  // all of them before one is measured
  for (const each of panels) charts.push(chartOf(each, each.split === "validation" && state.term === "loss" && state.clock === "images" && !state.group ? shown.filter(run => told.forecasts[run.folder]) : [], style));
  if (focused) find(`#charts [data-split="${focused}"]`)?.focus({preventScroll: true});
  if (!charts.length) find("#charts").append(make("p", {class: "empty", text: shown.length ? "Nothing was logged yet." : "No run fits the filter."}));
  drawLegend(panels, shown, style);
}

function chartOf({split, lines, box, words}, foreseen, style) {
  const sheet = getComputedStyle(document.documentElement), ink = sheet.getPropertyValue("--faint"), grid = sheet.getPropertyValue("--grid");
  const xs = [...new Set(lines.flatMap(line => line.x))].sort((a, b) => a - b), place = new Map(xs.map((x, i) => [x, i]));
  const spread = (x, y) => { const column = new Array(xs.length).fill(undefined); x.forEach((at, i) => { column[place.get(at)] = y[i]; }); return column; };
  const columns = [], series = [{}], bands = [], owner = [null];
  for (const line of lines) {
    if (line.low) {  // the band first, so that the mean lies on it
      const pale = `color-mix(in srgb, ${line.style.colour} 22%, transparent)`;
      columns.push(spread(line.x, line.high), spread(line.x, line.low.map(y => state.linear || y > 0 ? y : null)));
      series.push({stroke: "transparent", points: {show: false}, spanGaps: true}, {stroke: "transparent", points: {show: false}, spanGaps: true});
      bands.push({series: [series.length - 2, series.length - 1], fill: pale});
      owner.push(line, line);
    }
    columns.push(spread(line.x, line.y));
    series.push({label: line.label, stroke: line.style.colour, dash: line.style.dash, width: lines.length > 60 ? 1 : 1.8, spanGaps: true, points: {show: xs.length < 3}});
    owner.push(line);
  }
  const ends = foreseen.map(run => told.forecasts[run.folder]), axis = {stroke: ink, grid: {stroke: grid, width: 1}, ticks: {stroke: grid}, font: "12px system-ui, sans-serif"};
  const positive = columns.some(column => column.some(y => y > 0)), log = !state.linear && positive;
  const lowest = Math.min(...ends.map(end => end.low)), highest = Math.max(...ends.map(end => end.high));
  const key = `${split} ${state.clock}`, zoomed = zooms.get(key);
  const chart = new uPlot({
    width: Math.max(200, box.clientWidth), height: 250, legend: {show: false}, focus: {alpha: 0.22},
    cursor: {drag: {x: true, y: false}, focus: {prox: 30}, points: {size: 6}},
    scales: {
      x: {time: false, range: (u, low, high) => low === xs[0] && high === xs.at(-1) ? [low, Math.max(high, ...ends.map(end => end.to[0]))] : [low, high]},
      y: {distr: log ? 3 : 1, range: (u, low, high) => {
        if (low === null) return [u.scales.y.min, u.scales.y.max];  // no point is in sight
        const [from, to] = [Math.min(low, lowest), Math.max(high, highest)];  // lines and forecasts
        return log ? [from / 1.06, to * 1.06] : uPlot.rangeNum(from, to, 0.06, true);
      }},
    },
    axes: [{...axis, values: (u, at) => at.map(short)}, {...axis, size: 62, values: (u, at) => at.map(tick)}],
    series, bands,
    hooks: {
      draw: [u => { for (const run of foreseen) drawForecast(u, told.forecasts[run.folder], style.get(run.folder).colour); }],
      setSeries: [(u, place) => tip(u, place === null ? null : owner[place])],
      setCursor: [u => moveTip(u)],
      setScale: [(u, name) => {
        const {min, max} = u.scales.x;
        if (name !== "x") return;
        if (min <= xs[0] && max >= xs.at(-1)) zooms.delete(key); else zooms.set(key, {min, max});
      }],
    },
  }, [xs, ...columns], box);
  if (zoomed) chart.setScale("x", zoomed);
  const losses = lines.map(line => ({line, end: line.y.findLast(y => y !== null && y !== undefined)})).filter(each => each.end !== undefined).sort((a, b) => a.end - b.end);
  box.setAttribute("role", "application");
  box.setAttribute("aria-roledescription", "chart");
  box.tabIndex = 0;
  box.addEventListener("keydown", event => {
    const does = {"+": [1.5, 0], "=": [1.5, 0], "-": [1 / 1.5, 0], "0": [0, 0], ArrowLeft: [1, -0.2], ArrowRight: [1, 0.2]}[event.key];
    if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    zoom(chart, ...does);
  });
  box.setAttribute("aria-label", `${words} ${state.term} of ${lines.length} ${state.group ? "groups" : "runs"} over ${state.clock === "images" ? "images seen" : "training seconds"}${losses.length ? `; lowest at the end: ${losses[0].line.label} with ${digits(losses[0].end)}, highest: ${losses.at(-1).line.label} with ${digits(losses.at(-1).end)}` : ""}`);
  box.dataset.split = split;
  chart.owner = owner;
  box.addEventListener("mouseleave", () => tip(chart, null));
  return chart;
}

/** Shows a part of x that is `times` smaller, moved by a share of its width; 0 times shows all. */
function zoom(u, times, shift) {
  const first = u.data[0][0], last = u.data[0].at(-1), {min, max} = u.scales.x, span = (max - min) / times;
  if (span >= last - first) u.setScale("x", {min: first, max: last});
  else if (span > (last - first) / 4000) {
    const low = Math.min(Math.max((min + max - span) / 2 + shift * span, first), last - span);
    u.setScale("x", {min: low, max: low + span});
  }
}

/** The 80 % interval of the end: a fan from the last point, and a dashed line through its middle. */
function drawForecast(u, {from, to, low, high}, colour) {
  const at = (x, y) => [u.valToPos(x, "x", true), u.valToPos(y, "y", true)], context = u.ctx;
  context.save();
  context.beginPath();
  context.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  context.clip();
  context.fillStyle = context.strokeStyle = colour;
  context.globalAlpha = 0.16;
  context.beginPath();
  for (const point of [at(...from), at(to[0], high), at(to[0], low)]) context.lineTo(...point);
  context.fill();
  context.globalAlpha = 0.9;
  context.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  context.lineWidth = 1.3 * devicePixelRatio;
  context.beginPath();
  context.moveTo(...at(...from));
  context.lineTo(...at(...to));
  context.stroke();
  context.restore();
}

// --- the line under the pointer

const box = find("#tip");
let over = null;
function tip(chart, line) {
  over = line ? {chart, line} : null;
  highlight(line?.run?.folder ?? null);
  if (!line) box.hidden = true;
}
function moveTip(u) {
  if (!over || over.chart !== u || u.cursor.idx === null || u.cursor.idx === undefined) { box.hidden = true; return; }
  const {line} = over, x = u.posToVal(u.cursor.left, "x");
  let near = 0;
  line.x.forEach((at, i) => { if (Math.abs(at - x) < Math.abs(line.x[near] - x)) near = i; });
  const bounds = u.over.getBoundingClientRect(), range = line.low ? ` (${digits(line.low[near])} to ${digits(line.high[near])})` : "";
  box.replaceChildren(make("strong", {text: line.label}), `${digits(line.y[near])}${range} at ${state.clock === "images" ? `${count(line.x[near])} images` : `${digits(line.x[near])} s`}`);
  box.hidden = false;
  box.style.left = `${Math.min(innerWidth - box.offsetWidth - 8, bounds.left + u.cursor.left + 14)}px`;
  box.style.top = `${bounds.top + u.cursor.top + 14}px`;
}
onHighlight(folder => {
  for (const chart of charts) {
    const place = folder === null ? -1 : chart.owner.findIndex(line => line && (line.key === folder || line.members?.some(run => run.folder === folder)));
    if (over?.chart !== chart) chart.setSeries(place > 0 ? place : null, {focus: place > 0});
  }
  for (const entry of find("#legend").children) entry.classList.toggle("focus", entry.dataset.key === folder);
});

// --- legend: what each line is, where it goes

function drawLegend(panels, shown, style) {
  const lines = new Map(panels.flatMap(each => each.lines).map(line => [line.key, line]));
  find("#legend").replaceChildren(...[...lines.values()].map(line => {
    const run = line.run && runs.get(line.run.folder), forecast = run && told.forecasts[run.folder]?.words, verdict = run && told.trends[run.folder], trend = verdict === "too few points" ? "" : verdict;
    const press = make("button", {type: "button", title: line.key, on: {
      click: () => run ? change({run: run.folder}) : change({picked: line.members.map(member => member.folder)}),
      focus: () => highlight(run?.folder ?? null), blur: () => highlight(null), mouseenter: () => highlight(run?.folder ?? null), mouseleave: () => highlight(null),
    }}, swatch(line.style), make("span", {class: "what", text: line.label}), make("small", {text: forecast || trend || ""}));
    const entry = make("li", {"data-key": line.key}, press);
    entry.classList.toggle("focus", line.key === highlighted());
    return entry;
  }));
  const listed = drawn.length, more = !state.picked.length && runs.size > shown.length;
  find("#curves-hint").textContent = `${listed && more ? `The first ${shown.length} of the table are drawn. Select rows to draw these. ` : ""}Drag to zoom, double click to go back. Keys on a chart: + and − zoom, arrows shift, 0 shows all.`;
}
