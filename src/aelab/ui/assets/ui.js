// The page of `aelab ui`: one state, kept in the address, so that a link restores the view.
(() => {
"use strict";
const find = (selector, root = document) => root.querySelector(selector);
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value; else if (value !== null) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f", "#6a3d9a", "#4b9e2f", "#b2182b", "#1b7837"];
const SHOWN = 12;  // runs that are drawn without a selection
const runs = new Map();
let keys = [], curves = {}, moments = {}, charts = [];
const state = {sort: "loss", down: false, filter: "", picked: new Set(), term: "loss", clock: "images", colour: "", log: true, split: "heldout", still: false};

const {compare} = new Intl.Collator("en", {numeric: true});  // localeCompare makes one for each call

// --- the address

function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of ["sort", "filter", "term", "clock", "colour", "split"]) if (given.has(name)) state[name] = given.get(name);
  state.down = given.has("down");
  state.log = !given.has("linear");
  state.still = given.has("still");  // the page as it is now, for pictures of it
  state.picked = new Set(given.getAll("run"));
}
function keep() {
  const made = new URLSearchParams();
  for (const [name, usual] of [["sort", "loss"], ["filter", ""], ["term", "loss"], ["clock", "images"], ["colour", ""], ["split", "heldout"]]) {
    if (state[name] !== usual) made.set(name, state[name]);
  }
  if (state.down) made.set("down", "1");
  if (!state.log) made.set("linear", "1");
  if (state.still) made.set("still", "1");
  for (const folder of state.picked) made.append("run", folder);
  history.replaceState(null, "", `#${made}`);
}

// --- asking

async function ask(path, given = []) {
  const answer = await fetch(`${path}?${new URLSearchParams(given)}`);
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error);
  return told;
}
const named = folders => folders.map(folder => ["run", folder]);

// --- rows

const digits = value => value === null || value === undefined ? "" : String(+Number(value).toPrecision(5));
const COLUMNS = [
  {name: "run", value: run => run.folder},
  {name: "state", value: run => run.state},
  {name: "images", right: true, value: run => run.images},
  {name: "loss", right: true, value: run => run.loss, text: run => digits(run.loss)},
  {name: "best", right: true, value: run => run.best, text: run => digits(run.best)},
  {name: "minutes", right: true, value: run => run.minutes, text: run => digits(run.minutes)},
  {name: "parameters", right: true, value: run => run.parameters, text: run => run.parameters === null ? "" : run.parameters.toLocaleString("en-US")},
];
const columns = () => {
  const own = keys.map(key => ({name: key, value: run => run.matrix[key] ?? null, text: run => run.matrix[key] === undefined ? "" : String(run.matrix[key])}));
  return [COLUMNS[0], ...own, ...COLUMNS.slice(1)];
};
function fits(run) {
  const words = state.filter.trim().toLowerCase().split(/\s+/).filter(word => word);
  const text = `${run.folder} ${run.state} ${Object.entries(run.matrix).map(([key, value]) => `${key}=${value}`).join(" ")} `.toLowerCase();
  return words.every(word => word.includes("=") ? text.includes(`${word} `) : text.includes(word));
}
function listed() {
  const column = columns().find(each => each.name === state.sort) || COLUMNS[0], sign = state.down ? -1 : 1;
  const order = (a, b) => {
    const x = column.value(a), y = column.value(b);
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : compare(String(x), String(y)));
  };
  return [...runs.values()].filter(fits).sort((a, b) => order(a, b) || compare(a.folder, b.folder));
}
function drawn() {
  const found = listed(), picked = found.filter(run => state.picked.has(run.folder));
  return picked.length ? picked : found.slice(0, SHOWN);
}
function colours(shown) {  // folder -> colour: by place, or by the value of an axis
  const values = state.colour ? [...new Set([...runs.values()].map(run => String(run.matrix[state.colour])))].sort(compare) : [];
  return new Map(shown.map((run, n) => [run.folder, COLOURS[(state.colour ? values.indexOf(String(run.matrix[state.colour])) : n) % COLOURS.length]]));
}
function drawTable() {
  const found = listed(), shown = drawn(), colour = colours(shown), all = columns();
  const head = make("tr");
  for (const column of all) {
    const is = state.sort === column.name, button = make("button", {type: "button", text: column.name + (is ? state.down ? " ↓" : " ↑" : "")});
    button.addEventListener("click", () => { state.down = is && !state.down; state.sort = column.name; keep(); drawTable(); refresh(); });
    head.append(make("th", {scope: "col", class: column.right ? "right" : null, "aria-sort": is ? state.down ? "descending" : "ascending" : "none"}, button));
  }
  find("table.runs thead").replaceChildren(head);
  const rows = found.map(run => {
    const row = make("tr", {"aria-selected": state.picked.has(run.folder), title: run.error || null});
    for (const column of all) {
      const cell = make("td", {class: column.right ? "right" : null});
      if (column.name === "run") {
        const button = make("button", {type: "button", "aria-pressed": state.picked.has(run.folder)});
        if (colour.has(run.folder)) button.append(make("span", {class: "swatch", style: `--colour: ${colour.get(run.folder)}`}));
        button.append(run.folder);
        cell.append(button);
      } else if (column.name === "state") cell.append(make("span", {class: `badge ${run.state}`, text: run.state}));
      else if (column.name === "images") {
        if (run.state === "running" && run.max_images) {
          const bar = make("i"); bar.style.width = `${Math.min(100, 100 * run.images / run.max_images)}%`;
          cell.append(make("span", {class: "progress", role: "progressbar", "aria-label": "images seen", "aria-valuenow": Math.round(100 * run.images / run.max_images)}, bar));
        }
        cell.append(run.images.toLocaleString("en-US"));
      } else cell.textContent = (column.text || column.value)(run);
      row.append(cell);
    }
    row.addEventListener("click", () => {
      if (!state.picked.delete(run.folder)) state.picked.add(run.folder);
      keep(); drawTable(); refresh();
    });
    return row;
  });
  const focused = document.activeElement?.closest?.("tbody tr"), place = focused ? [...focused.parentNode.children].indexOf(focused) : -1;
  find("table.runs tbody").replaceChildren(...rows);
  if (place >= 0) find("button", rows[place])?.focus();
  find("#count").textContent = `${found.length} of ${runs.size} runs${state.picked.size ? `, ${state.picked.size} selected` : ""}`;
  const tally = {};
  for (const run of runs.values()) tally[run.state] = (tally[run.state] || 0) + 1;
  find("#states").replaceChildren(...Object.entries(tally).map(([name, count]) => make("li", {}, make("span", {class: `badge ${name}`, text: `${count} ${name}`}))));
  find("#report").href = `/report?${new URLSearchParams(named([...state.picked]))}`;
}
function options(select, values, chosen) {
  if ([...select.options].map(option => option.value).join("\n") !== values.map(value => value[0]).join("\n")) {
    select.replaceChildren(...values.map(([value, text]) => make("option", {value, text})));
  }
  select.value = values.some(([value]) => value === chosen) ? chosen : values[0]?.[0] ?? "";
}
function newRows(list, gone = []) {
  for (const run of list) runs.set(run.folder, run);
  for (const folder of gone) runs.delete(folder);
  const values = {};
  for (const run of runs.values()) for (const [key, value] of Object.entries(run.matrix)) (values[key] ||= new Set()).add(String(value));
  keys = Object.keys(values).filter(key => values[key].size > 1 || runs.size === 1);
  options(find("#colour"), [["", "run"], ...keys.map(key => [key, key])], state.colour);
  const able = [...runs.values()].filter(run => run.best !== null || run.loss !== null).map(run => [run.folder, run.folder]);
  options(find("#model"), able, find("#model").value);
  link();
  drawTable();
}

// --- curves

async function refresh() {
  const shown = drawn().map(run => run.folder);
  const told = shown.length ? await ask("/api/curves", [...named(shown), ["term", state.term], ["clock", state.clock]]) : {terms: ["loss"], curves: {}};
  curves = told.curves;
  options(find("#term"), told.terms.map(term => [term, term]), state.term);
  drawCurves();
  moments = shown.length ? await ask("/api/moments", named(shown)) : {};
  drawPictures();
  await drawCompared();
}
function drawCurves() {
  const shown = drawn(), colour = colours(shown), style = getComputedStyle(document.documentElement), ink = style.getPropertyValue("--faint"), grid = style.getPropertyValue("--grid");
  for (const chart of charts) chart.destroy();
  charts = [];
  find("#charts").replaceChildren();
  const panels = ["train", "validation"].map(split => [split, shown.filter(run => curves[run.folder]?.[split]?.[0].length), make("div")]);
  const filled = panels.filter(([, lines]) => lines.length);
  find("#charts").append(...filled.map(([, , box]) => box));  // all of them before one is measured
  for (const [split, lines, box] of filled) {
    const xs = [...new Set(lines.flatMap(run => curves[run.folder][split][0]))].sort((a, b) => a - b), place = new Map(xs.map((x, i) => [x, i]));
    const ys = lines.map(run => {
      const column = new Array(xs.length).fill(undefined), [x, y] = curves[run.folder][split];
      x.forEach((at, i) => { column[place.get(at)] = state.log && y[i] <= 0 ? null : y[i]; });
      return column;
    });
    const axis = {stroke: ink, grid: {stroke: grid, width: 1}, ticks: {stroke: grid}};
    charts.push(new uPlot({
      title: `${split}: ${state.term}`, width: box.clientWidth, height: 280, legend: {show: false}, cursor: {drag: {x: true, y: false}},
      scales: {x: {time: false}, y: {distr: state.log && ys.flat().some(y => y > 0) ? 3 : 1}},
      axes: [{...axis, values: (u, at) => at.map(v => v >= 1e6 ? `${v / 1e6}M` : v >= 1e3 ? `${v / 1e3}k` : v)}, {...axis, size: 64, values: (u, at) => at.map(v => v === null ? "" : digits(v))}],
      series: [{}, ...lines.map(run => ({label: run.folder, stroke: colour.get(run.folder), width: 1.6, spanGaps: true, points: {show: xs.length < 3}}))],
    }, [xs, ...ys], box));
  }
  if (!charts.length) find("#charts").append(make("p", {class: "empty", text: "Nothing was logged yet."}));
  find("#legend").replaceChildren(...shown.map(run => make("span", {}, make("span", {class: "swatch", style: `--colour: ${colour.get(run.folder)}`}), run.folder)));
}

// --- two runs

async function drawCompared() {
  const two = listed().filter(run => state.picked.has(run.folder)).map(run => run.folder), section = find("#compared");
  section.hidden = two.length !== 2;
  if (section.hidden) return;
  const told = await ask("/api/compare", named(two));
  find("#verdict").textContent = told.verdict;
  find("#facts").replaceChildren(...told.facts.map(text => make("li", {text})));
  find(".lines thead").replaceChildren(make("tr", {}, ...two.map(text => make("th", {scope: "col", text}))));
  find(".lines tbody").replaceChildren(...told.lines.map(pair => make("tr", {}, ...pair.map(text => make("td", {text})))));
}

// --- reproductions

function drawPictures() {
  const shown = drawn().filter(run => moments[run.folder]?.[state.split]?.images.length).slice(0, SHOWN);
  const all = [...new Set(shown.flatMap(run => moments[run.folder][state.split].images))].sort((a, b) => a - b), slide = find("#moment");
  const atEnd = Number(slide.value) === Number(slide.max);
  slide.max = Math.max(0, all.length - 1);
  if (atEnd) slide.value = slide.max;
  const now = all[Number(slide.value)];
  find("#moment-text").textContent = all.length ? `${now.toLocaleString("en-US")} images` : "";
  const strips = [], of = run => moments[run.folder][state.split];
  const address = (folder, images) => `/api/picture?${new URLSearchParams([["run", folder], ["split", state.split], ...(images === null ? [] : [["images", images]])])}`;
  const strip = (words, src) => strips.push(make("div", {class: "shots"}, make("p", {text: words}), make("div", {class: "scroll", tabindex: 0}, make("img", {src, alt: words}))));
  for (const key of new Set(shown.map(run => of(run).originals))) {  // runs of the same images under these
    const group = shown.filter(run => of(run).originals === key);
    strip("originals", address(group[0].folder, null));
    for (const run of group) {
      const at = of(run).images.filter(images => images <= now).pop() ?? of(run).images[0];
      strip(`${run.folder}, ${at.toLocaleString("en-US")} images`, address(run.folder, at));
    }
  }
  find("#pictures").replaceChildren(...(strips.length ? strips : [make("p", {class: "empty", text: "No reproductions are stored yet."})]));
}

// --- a picture through a model

const model = find("#model"), drop = find("#drop"), file = find("#file"), seen = find("#seen");
const link = () => { find("#latents").href = `/latents?${new URLSearchParams({run: model.value})}`; };
model.addEventListener("change", link);
async function look(picture) {
  if (!picture || !model.value) return;
  seen.replaceChildren(make("p", {text: "opening the model …"}));
  try {
    const answer = await fetch(`/api/encode?${new URLSearchParams({run: model.value})}`, {method: "POST", body: picture});
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    const shown = (words, src) => make("figure", {}, make("img", {src, alt: words}), make("figcaption", {text: words}));
    seen.replaceChildren(
      shown("as the model sees it", told.given), shown(`reconstruction, L2 ${digits(told.error)}`, told.reconstruction),
      shown(`nearest held-out image: ${[told.label, told.name].filter(word => word).join(", ") || "no name"}`, told.nearest),
      make("p", {text: `Code: ${told.code.slice(0, 16).map(digits).join(", ")}${told.code.length > 16 ? ", …" : ""}. ${told.milliseconds.toFixed(1)} ms.`}));
  } catch (error) {
    seen.replaceChildren(make("p", {class: "error", text: error.message}));
  }
}
file.addEventListener("change", () => look(file.files[0]));
drop.addEventListener("click", () => file.click());
drop.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); file.click(); } });
drop.addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", event => { event.preventDefault(); drop.classList.remove("over"); look(event.dataTransfer.files[0]); });

// --- controls

for (const [id, name] of [["filter", "filter"], ["term", "term"], ["clock", "clock"], ["colour", "colour"], ["split", "split"]]) {
  find(`#${id}`).addEventListener("input", event => {
    state[name] = event.target.value;
    keep(); drawTable();
    if (name === "split") drawPictures(); else if (name === "colour") drawCurves(); else refresh();
  });
}
find("#log").addEventListener("change", event => { state.log = event.target.checked; keep(); drawCurves(); });
find("#moment").addEventListener("input", drawPictures);
find("#clear").addEventListener("click", () => { state.picked.clear(); keep(); drawTable(); refresh(); });
let resized = 0;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(drawCurves, 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCurves);

// --- live

function listen() {
  const events = new EventSource("/api/events"), line = find("#line");
  let waiting = 0;
  events.onopen = () => { line.textContent = "live"; };
  events.onerror = () => { line.textContent = "no connection to aelab ui"; };
  events.onmessage = message => {
    const told = JSON.parse(message.data), before = new Set(drawn().map(run => run.folder));
    newRows(told.changed, told.gone);
    const after = drawn().map(run => run.folder);
    if (told.gone.length || told.changed.some(run => before.has(run.folder)) || after.some(folder => !before.has(folder))) {
      clearTimeout(waiting); waiting = setTimeout(refresh, 100);
    }
  };
}
restore();
find("#filter").value = state.filter;
find("#clock").value = state.clock;
find("#split").value = state.split;
find("#log").checked = state.log;
ask("/api/runs").then(told => {
  find("#where").textContent = told.where;
  newRows(told.runs);
  return refresh();
}).then(() => { if (state.still) find("#line").textContent = "not followed"; else listen(); }, error => { find("#line").textContent = error.message; });
})();
