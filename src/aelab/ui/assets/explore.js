// The latent space of one run: the server decodes, this page asks and draws.
import {address, ask as read, send, sendFile} from "./asking.js";
import {count, digits, draw, find, make, options} from "./dom.js";
import {classColour} from "./palette.js";

const run = new URLSearchParams(location.search).get("run") || "";
const map = find("#map"), shown = find("#shown"), near = find("#near"), way = find("#way"), text = find("#text");
const atlas = new Image();
const state = {
  base: null, directions: {}, dimensions: {}, classes: null,  // the point that is decoded
  ends: [null, null], place: null, region: null,
  view: null, mode: "move", only: null, chosen: new Set(), lasso: null,
};
let it = null, bounds = null;

const named = [["run", run]];
const ask = (question, given) => send(`/api/explore/${question}`, given, named);

// --- the point, and what it decodes to

function point() {
  const {base, directions, dimensions, classes} = state;
  return JSON.parse(JSON.stringify({...base, directions, dimensions, ...(classes ? {classes} : {})}));
}
const COARSE = 96, FINE = 400;  // pixels of a magnified image: while it moves, and at rest
let asking = false, again = false, resting = 0;
async function decode(width = COARSE) {
  if (asking) { again = true; return; }  // one question at a time; of those that wait only the last
  asking = true;
  clearTimeout(resting);
  try {
    const magnified = it.renders && state.region ? {width, region: state.region} : null;
    const began = performance.now(), told = await ask("decode", {point: point(), window: magnified});
    show(told, performance.now() - began);
    if (magnified && width < FINE) resting = setTimeout(() => decode(FINE), 250);
  } catch (error) { complain(error); } finally {
    asking = false;
    if (again) { again = false; decode(); }
  }
}
function show(told, spent) {
  shown.src = told.picture;
  text.hidden = !it.writes; shown.hidden = it.writes;
  if (it.writes) text.textContent = told.text;
  state.place = told.place;
  tile(near, told.nearest);
  find("#told").textContent = `nearest image: ${about(told.nearest)}, distance ${digits(told.distance)}`;
  find("#speed").textContent = `${told.milliseconds.toFixed(1)} ms to decode, ${spent.toFixed(0)} ms to this page`;
  find("#window-told").textContent = state.region ? `${(2 / (state.region[2] - state.region[0])).toFixed(1)} times` : "";
  document.documentElement.dataset.answers = Number(document.documentElement.dataset.answers || 0) + 1;
  drawMap();
}
function complain(error) {
  find("#speed").replaceChildren(make("span", {class: "error", text: error.message}));
}
const about = n => [it.labels && it.classes[it.labels[n]], it.names[n]].filter(word => word).join(", ");
function go(base, keepSteps = true) {
  state.base = base;
  if (!keepSteps) { state.directions = {}; state.dimensions = {}; resetClasses(); makeSliders(); }
  decode();
}

// --- the map

const whole = () => ({...bounds});
function toScreen([x, y]) {
  const {low, high} = state.view;
  return [(x - low[0]) / (high[0] - low[0]) * map.clientWidth, (1 - (y - low[1]) / (high[1] - low[1])) * map.clientHeight];
}
function toMap(sx, sy) {
  const {low, high} = state.view;
  return [low[0] + sx / map.clientWidth * (high[0] - low[0]), low[1] + (1 - sy / map.clientHeight) * (high[1] - low[1])];
}
function tile(canvas, n, width = it.tile[0], height = it.tile[1]) {
  canvas.width = it.tile[0]; canvas.height = it.tile[1];
  canvas.getContext("2d").drawImage(atlas, n % it.columns * it.tile[0], Math.floor(n / it.columns) * it.tile[1], it.tile[0], it.tile[1], 0, 0, width, height);
}
let boxes = [];  // image, left, top, width, height of each thumbnail on the screen
let frame = 0;
function drawMap() {
  if (!frame) frame = requestAnimationFrame(() => { frame = 0; paintMap(); });
}
function paintMap() {
  const ratio = devicePixelRatio || 1, pen = map.getContext("2d"), style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--text"), ground = style.getPropertyValue("--ground"), faint = style.getPropertyValue("--faint");
  const w = map.clientWidth, h = map.clientHeight;
  map.width = Math.round(w * ratio); map.height = Math.round(h * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.imageSmoothingEnabled = false;
  const tall = Math.max(22, Math.min(40, it.tile[1])), wide = tall * it.tile[0] / it.tile[1], step = Math.max(wide, tall) + 3;
  const cells = new Map(), dots = [], key = (x, y) => `${Math.floor(x / step)} ${Math.floor(y / step)}`;
  boxes = [];
  const colour = n => it.labels ? classColour(it.labels[n]) : faint;
  const inside = [];
  for (let n = 0; n < it.count; n++) {
    if (state.only !== null && it.labels[n] !== state.only) continue;
    const [x, y] = toScreen(it.map[n]);
    if (x > -wide && y > -tall && x < w + wide && y < h + tall) inside.push([n, x, y]);
  }
  inside.sort((a, b) => state.chosen.has(b[0]) - state.chosen.has(a[0]));  // those of the lasso have room first
  for (const [n, x, y] of inside) {
    let free = atlas.complete;
    for (let dx = -1; free && dx < 2; dx++) for (let dy = -1; free && dy < 2; dy++) {
      for (const [a, b] of cells.get(key(x + dx * step, y + dy * step)) || []) {
        if (Math.abs(a - x) < wide + 3 && Math.abs(b - y) < tall + 3) { free = false; break; }
      }
    }
    if (!free) { dots.push([n, x, y]); continue; }
    const cell = key(x, y);
    if (!cells.has(cell)) cells.set(cell, []);
    cells.get(cell).push([x, y]);
    boxes.push([n, x - wide / 2, y - tall / 2, wide, tall]);
  }
  for (const [n, x, y] of dots) {  // those without room
    pen.fillStyle = colour(n);
    pen.beginPath(); pen.arc(x, y, state.chosen.has(n) ? 4 : 2, 0, 7); pen.fill();
  }
  for (const [n, x, y] of boxes) {
    pen.fillStyle = state.chosen.has(n) ? ink : colour(n);
    if (it.labels || state.chosen.has(n)) pen.fillRect(x - 1.5, y - 1.5, wide + 3, tall + 3);
    pen.drawImage(atlas, n % it.columns * it.tile[0], Math.floor(n / it.columns) * it.tile[1], it.tile[0], it.tile[1], x, y, wide, tall);
  }
  find("#seen-count").textContent = `${boxes.length} pictures and ${dots.length} dots of ${count(it.count)} images`;
  if (state.lasso) {
    pen.beginPath();
    state.lasso.forEach(([x, y], k) => pen[k ? "lineTo" : "moveTo"](x, y));
    pen.lineWidth = 2; pen.strokeStyle = ink; pen.setLineDash([5, 4]); pen.stroke(); pen.setLineDash([]);
  }
  state.ends.forEach((end, k) => {
    if (!end) return;
    const [x, y] = toScreen(end.place);
    pen.font = "bold 13px system-ui, sans-serif"; pen.textAlign = "center"; pen.textBaseline = "middle";
    pen.fillStyle = ink; pen.beginPath(); pen.arc(x, y, 10, 0, 7); pen.fill();
    pen.fillStyle = ground; pen.fillText("AB"[k], x, y + 0.5);
  });
  if (state.place) {
    const [x, y] = toScreen(state.place);
    pen.lineWidth = 4; pen.strokeStyle = ground; pen.beginPath(); pen.arc(x, y, 9, 0, 7); pen.stroke();
    pen.lineWidth = 2; pen.strokeStyle = ink; pen.stroke();
  }
}
function zoom(times, sx = map.clientWidth / 2, sy = map.clientHeight / 2) {
  const at = toMap(sx, sy), {low, high} = state.view, most = 1.2 * (bounds.high[0] - bounds.low[0]);
  if ((high[0] - low[0]) / times > most) { state.view = whole(); drawMap(); return; }
  if ((high[0] - low[0]) / times < most / 4000) return;
  state.view = {low: low.map((v, k) => at[k] + (v - at[k]) / times), high: high.map((v, k) => at[k] + (v - at[k]) / times)};
  drawMap();
}
function shift(dx, dy) {  // in pixels
  const {low, high} = state.view;
  const by = [-dx / map.clientWidth * (high[0] - low[0]), dy / map.clientHeight * (high[1] - low[1])];
  state.view = {low: low.map((v, k) => v + by[k]), high: high.map((v, k) => v + by[k])};
  drawMap();
}
const onMap = event => { const box = map.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
let last = null, moved = false;
map.addEventListener("pointerdown", event => {
  map.setPointerCapture(event.pointerId);
  last = onMap(event); moved = false;
  if (state.mode === "lasso") state.lasso = [last];
  else if (state.mode === "move") go({place: toMap(...last)});
});
map.addEventListener("pointermove", event => {
  if (!map.hasPointerCapture(event.pointerId)) return;
  const at = onMap(event);
  if (Math.hypot(at[0] - last[0], at[1] - last[1]) > 3) moved = true;
  if (state.mode === "lasso") { state.lasso.push(at); drawMap(); return; }
  if (state.mode === "pan") shift(at[0] - last[0], at[1] - last[1]);
  else if (moved) go({place: toMap(...at)});
  last = at;
});
map.addEventListener("pointerup", event => {
  const [x, y] = onMap(event);
  if (state.mode === "lasso" && state.lasso) { choose(state.lasso); state.lasso = null; drawMap(); }
  else if (state.mode === "move" && !moved) {
    const hit = boxes.find(([, left, top, wide, tall]) => x >= left && y >= top && x <= left + wide && y <= top + tall);
    if (hit) go({image: hit[0]});  // exactly this image, not a place near it
  }
});
map.addEventListener("wheel", event => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 300), ...onMap(event)); }, {passive: false});
map.addEventListener("keydown", event => {
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
  if (event.key === "+" || event.key === "=") zoom(1.5);
  else if (event.key === "-") zoom(1 / 1.5);
  else if (event.key === "0") { state.view = whole(); drawMap(); }
  else if (step && state.place) {
    const {low, high} = state.view;
    go({place: state.place.map((p, k) => p + step[k] * (high[k] - low[k]) / (event.shiftKey ? 200 : 50))});
    find("#spoken").textContent = find("#told").textContent;
  } else return;
  event.preventDefault();
});
for (const radio of document.querySelectorAll("input[name=mode]")) {
  radio.addEventListener("change", () => { state.mode = radio.value; map.classList.toggle("pan", radio.value === "pan"); });
}
find("#nearer").addEventListener("click", () => zoom(1.5));
find("#farther").addEventListener("click", () => zoom(1 / 1.5));
find("#all").addEventListener("click", () => { state.view = whole(); drawMap(); });

// --- lasso

function within([x, y], line) {
  let odd = false;
  for (let i = 0, j = line.length - 1; i < line.length; j = i++) {
    const [a, b] = line[i], [c, d] = line[j];
    if ((b > y) !== (d > y) && x < (c - a) * (y - b) / (d - b) + a) odd = !odd;
  }
  return odd;
}
function choose(line) {
  state.chosen = new Set();
  if (line.length > 2) {
    for (let n = 0; n < it.count; n++) {
      if ((state.only === null || it.labels[n] === state.only) && within(toScreen(it.map[n]), line)) state.chosen.add(n);
    }
  }
  tellChosen();
}
function tellChosen() {
  find("#chosen").hidden = !state.chosen.size;
  const counts = {};
  for (const n of state.chosen) if (it.labels) counts[it.classes[it.labels[n]]] = (counts[it.classes[it.labels[n]]] || 0) + 1;
  const classes = Object.entries(counts).sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).map(([name, count]) => `${name} (${count})`).join(", ");
  find("#chosen-count").textContent = `${state.chosen.size} images${classes ? `: ${classes}` : ""}`;
  find("#chosen-names").replaceChildren(...[...state.chosen].slice(0, 500).map(n => {
    const button = make("button", {type: "button", text: it.names[n]});
    button.addEventListener("click", () => go({image: n}));
    return make("li", {}, button);
  }));
}
find("#copy").addEventListener("click", async () => {
  const names = [...state.chosen].map(n => it.names[n]).join("\n");
  try { await navigator.clipboard.writeText(names); find("#spoken").textContent = "copied"; } catch {
    const range = document.createRange();  // no permission: select them, so that the keys can copy
    range.selectNodeContents(find("#chosen-names"));
    getSelection().removeAllRanges(); getSelection().addRange(range);
  }
});
find("#forget").addEventListener("click", () => { state.chosen.clear(); tellChosen(); drawMap(); });

// --- a window of a decoder of any size

function magnify(times, at = [0, 0]) {  // at: -1..1 in the picture
  const now = state.region || [-1, -1, 1, 1], half = (now[2] - now[0]) / 2 / times;
  const centre = [0, 1].map(k => {
    const middle = (now[k] + now[k + 2]) / 2, old = (now[k + 2] - now[k]) / 2;
    return middle + at[k] * (old - half);
  });
  state.region = half >= 1 ? null : [centre[0] - half, centre[1] - half, centre[0] + half, centre[1] + half];
  decode();
}
find("#window-in").addEventListener("click", () => magnify(1.6));
find("#window-out").addEventListener("click", () => magnify(1 / 1.6));
find("#window-all").addEventListener("click", () => { state.region = null; decode(); });
shown.addEventListener("wheel", event => {
  if (!it?.renders) return;
  event.preventDefault();
  const box = shown.getBoundingClientRect();
  magnify(Math.exp(-event.deltaY / 300), [2 * (event.clientX - box.left) / box.width - 1, 2 * (event.clientY - box.top) / box.height - 1]);
}, {passive: false});

// --- from A to B

async function strips() {
  way.disabled = !(state.ends[0] && state.ends[1]);
  if (way.disabled) return;
  const rows = [];
  for (const spherical of [false, true]) {
    const told = await ask("path", {from: state.ends[0].point, to: state.ends[1].point, steps: 9, spherical});
    rows.push(make("p", {text: spherical ? "along the great circle" : "straight"}),
      make("div", {}, ...told.pictures.map((src, k) => make("img", {src, alt: `step ${k + 1} of 9`}))));
  }
  find("#strips").replaceChildren(...rows);
}
["#keep-a", "#keep-b"].forEach((id, k) => find(id).addEventListener("click", () => {
  state.ends[k] = {point: point(), place: state.place};
  drawMap();
  strips().catch(complain);
}));
function between() {
  if (!way.disabled) go({from: state.ends[0].point, to: state.ends[1].point, t: way.value / 1000, spherical: find("#spherical").checked}, false);
}
way.addEventListener("input", between);
find("#spherical").addEventListener("change", between);

// --- sliders

function makeSliders() {
  const basis = find("#basis").value, list = basis === "directions" ? it.directions.map((std, k) => [k, std]) : it.dimensions;
  find("#sliders").replaceChildren(...list.filter(([, std]) => std > 1e-6).map(([number, std]) => {
    const input = make("input", {type: "range", min: -3, max: 3, step: 0.05, value: state[basis][number] || 0}), value = make("output");
    input.setAttribute("aria-label", `${basis === "directions" ? "direction" : "dimension"} ${number + 1}, in standard deviations`);
    const tell = () => { const at = Number(input.value); value.textContent = at ? `${at > 0 ? "+" : "−"}${Math.abs(at).toFixed(1)} σ` : "0"; };
    input.addEventListener("input", () => {
      if (Number(input.value)) state[basis][number] = Number(input.value); else delete state[basis][number];
      tell(); decode();
    });
    tell();
    return make("label", {title: `standard deviation ${digits(std)}`}, `${number + 1}`, input, value);
  }));
}
find("#basis").addEventListener("change", makeSliders);
find("#reset").addEventListener("click", () => { state.directions = {}; state.dimensions = {}; makeSliders(); decode(); });

// --- a class minus another

const amount = find("#amount");
function arithmetic() {
  const of = id => find(id).value === "" ? null : Number(find(id).value), by = Number(amount.value) / 100;
  find("#amount-told").textContent = by.toFixed(2);
  state.classes = by ? {plus: of("#plus"), minus: of("#minus"), amount: by} : null;
  decode();
}
function resetClasses() { state.classes = null; amount.value = 0; find("#amount-told").textContent = "0"; }
for (const id of ["#plus", "#minus", "#amount"]) find(id).addEventListener("input", arithmetic);

// --- one's own picture

const drop = find("#drop"), seen = find("#seen");
let dropped = null;
async function look(file) {
  if (!file) return;
  dropped = file;
  seen.replaceChildren(make("p", {text: "…"}));
  try {
    const told = await sendFile("/api/explore/look", file, [...named, ["class", find("#as-class").value]]);
    const figure = (words, src) => make("figure", {}, make("img", {src, alt: words}), make("figcaption", {text: words}));
    const neighbours = told.nearest.map(([n, apart]) => {
      const canvas = make("canvas", {role: "img", "aria-label": about(n)});
      tile(canvas, n);
      return make("figure", {class: "neighbour"}, canvas, make("figcaption", {text: `${about(n)}, ${digits(apart)}`}));
    });
    seen.replaceChildren(figure("as the model sees it", told.given), figure(`decoded${told.class && ` as ${told.class}`}, ${told.unit} ${digits(told.error)}`, told.reconstruction),
      make("p", {text: `Nearest images by the distance of the codes; ${told.milliseconds.toFixed(1)} ms`}), ...neighbours);
    go({kept: told.kept}, false);
  } catch (error) { seen.replaceChildren(make("p", {class: "error", text: error.message})); }
}
find("#file").addEventListener("change", event => look(event.target.files[0]));
find("#as-class").addEventListener("change", () => look(dropped));
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => { event.preventDefault(); drop.classList.remove("over"); look(event.dataTransfer.files[0]); });
drop.addEventListener("dragenter", () => drop.classList.add("over"));
drop.addEventListener("dragleave", event => { if (!drop.contains(event.relatedTarget)) drop.classList.remove("over"); });

// --- samples

find("#draw").addEventListener("click", async () => {
  const box = find("#samples");
  box.replaceChildren(make("p", {text: "…"}));
  try {
    const told = await ask("samples", {count: 16, sampler: find("#sampler").value, seed: Number(find("#seed").value)});
    box.replaceChildren(...told.samples.map((one, k) => {
      const button = make("button", {type: "button", title: "decode its code"}, make("img", {src: one.picture, alt: `sample ${k + 1}`}));
      button.addEventListener("click", () => go({kept: one.kept}, false));
      const words = one.nearest ? [one.nearest.class, `${told.unit} ${digits(one.nearest.error)}`].filter(word => word).join(", ") : "";
      return make("figure", {}, button, ...(one.nearest ? [make("img", {src: one.nearest.picture, alt: `nearest training image, ${words}`})] : []), make("figcaption", {text: words}));
    }));
  } catch (error) { box.replaceChildren(make("p", {class: "error", text: error.message})); }
});

// --- start

function classes() {
  find("#classes").replaceChildren(...it.classes.slice(0, 60).map((name, k) => {
    const svg = draw("svg", {viewBox: "0 0 11 11", "aria-hidden": "true"}, draw("rect", {width: 11, height: 11, rx: 3, fill: classColour(k)}));
    const button = make("button", {type: "button", "aria-pressed": "false"}, svg, name);
    button.addEventListener("click", () => {
      state.only = state.only === k ? null : k;
      [...find("#classes").children].forEach((other, n) => other.setAttribute("aria-pressed", String(n === state.only)));
      drawMap();
    });
    return button;
  }));
  const used = it.labels ? [...new Set(it.labels)].sort((a, b) => a - b) : [];
  find("#arithmetic").hidden = used.length < 2;
  for (const id of ["#plus", "#minus"]) {
    find(id).replaceChildren(make("option", {value: "", text: "all images"}), ...used.map(n => make("option", {value: n, text: it.classes[n]})));
  }
  if (used.length > 1) { find("#plus").value = used[0]; find("#minus").value = used[1]; }
}
async function start() {
  find("#run").textContent = run;
  document.title = `${run}: latent space`;
  it = await read("/api/explore", named);
  const xs = it.map.map(p => p[0]), ys = it.map.map(p => p[1]), low = [Math.min(...xs), Math.min(...ys)], high = [Math.max(...xs), Math.max(...ys)];
  const span = k => Math.max(high[k] - low[k], 1e-6);
  bounds = {low: low.map((v, k) => v - 0.04 * span(k)), high: high.map((v, k) => v + 0.04 * span(k))};
  state.view = whole();
  const words = it.count < it.total ? `${count(it.count)} of ${count(it.total)}` : count(it.count);
  find("#facts").textContent = `${words} ${it.held_out ? "held-out" : "training"} images by the two directions in which their codes differ most; a code has ${it.latent_shape.join("×")} numbers; state ${it.state}, after ${count(it.images_seen)} images. Drag on the map, or use the arrow keys.`;
  find("#sampler").replaceChildren(...it.samplers.map(name => make("option", {value: name, text: name})));
  find("#as").hidden = !it.given_classes.length;
  options(find("#as-class"), [["", it.needs_class ? "the one that fits best" : "none"], ...it.given_classes.map(name => [name, name])], "");
  find("#window").hidden = !it.renders;
  shown.classList.toggle("renders", Boolean(it.renders));
  classes();
  makeSliders();
  atlas.onload = () => { drawMap(); go({image: 0}); };
  atlas.src = address("/api/explore/thumbnails", named);
}
addEventListener("resize", drawMap);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
start().catch(error => { find("#facts").replaceChildren(make("span", {class: "error", text: error.message})); });
