// The latent space of a run: a map of images, and what decodes under the pointer.
(() => {
"use strict";
const entries = JSON.parse(document.getElementById("explorer-data").textContent);
const root = document.getElementById("explorer");
if (!root || !entries.length) return;
const find = selector => root.querySelector(selector);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const map = find("canvas.map"), shown = find("canvas.shown"), near = find("canvas.near");
const text = find(".text"), plus = find(".plus"), minus = find(".minus"), amount = find(".amount");
const told = find(".told"), spoken = find(".spoken"), sliders = find(".sliders"), choose = find(".which");
let it = null;  // the run that is shown

function load(entry) {
  const codes = decoder.halves(entry.codes), D = entry.mean.length, N = entry.count;
  const xs = entry.map.map(p => p[0]), ys = entry.map.map(p => p[1]);
  const low = [Math.min(...xs), Math.min(...ys)], high = [Math.max(...xs), Math.max(...ys)];
  const made = {...entry, codes, D, N, low, high, offsets: entry.std.map(() => 0), place: [...entry.map[0]], ends: [null, null],
    view: {low: [...low], high: [...high]}, classes_by: null, picture: new Image(), grid_picture: null, decode: null};
  made.picture.onload = () => { if (it === made) drawMap(); };
  made.picture.src = entry.thumbnails;
  if (entry.program) made.decode = decoder.prepare(entry.program);
  else if (entry.grid.picture) {
    const picture = new Image();
    picture.onload = () => {
      const side = document.createElement("canvas");
      side.width = picture.width; side.height = picture.height;
      const pen = side.getContext("2d", {willReadFrequently: true});
      pen.drawImage(picture, 0, 0);
      made.grid_picture = pen.getImageData(0, 0, side.width, side.height);
      if (it === made) update();
    };
    picture.src = entry.grid.picture;
  }
  return made;
}

// --- latents

function latentAt([px, py]) {  // as `latent_at` of study/explorer.py
  const {codes, D, N, axes, spacing} = it, z = new Float32Array(D);
  let total = 0, mx = 0, my = 0;
  for (let n = 0; n < N; n++) {
    const [x, y] = it.map[n], far = ((px - x) ** 2 + (py - y) ** 2) / spacing ** 2 + 1e-3, weight = 1 / (far * far);
    total += weight; mx += weight * x; my += weight * y;
    for (let d = 0; d < D; d++) z[d] += weight * codes[n * D + d];
  }
  const dx = px - mx / total, dy = py - my / total;
  for (let d = 0; d < D; d++) z[d] = z[d] / total + dx * axes[0][d] + dy * axes[1][d];
  if (it.classes_by) for (let d = 0; d < D; d++) z[d] += it.classes_by.amount * it.classes_by.step[d];
  it.offsets.forEach((offset, k) => { if (offset) for (let d = 0; d < D; d++) z[d] += offset * it.std[k] * it.axes[k][d]; });
  return z;
}
function between(a, b, t, round) {
  const dot = a.reduce((sum, v, i) => sum + v * b[i], 0), la = Math.hypot(...a), lb = Math.hypot(...b);
  const angle = Math.acos(Math.min(1, Math.max(-1, dot / Math.max(la * lb, 1e-12)))), sine = Math.sin(angle);
  const [u, v] = round && sine > 1e-4 ? [Math.sin((1 - t) * angle) / sine, Math.sin(t * angle) / sine] : [1 - t, t];
  return a.map((value, i) => u * value + v * b[i]);
}
function nearest(z) {
  let best = 0, least = Infinity;
  for (let n = 0; n < it.N; n++) {
    let far = 0;
    for (let d = 0; d < it.D; d++) far += (z[d] - it.codes[n * it.D + d]) ** 2;
    if (far < least) { least = far; best = n; }
  }
  return best;
}
function classMean(n) {  // of all images for an empty value
  const chosen = [...Array(it.N).keys()].filter(k => n === "" || it.labels[k] === Number(n));
  return it.mean.map((_, d) => chosen.reduce((sum, k) => sum + it.codes[k * it.D + d], 0) / chosen.length);
}
const onMap = z => [0, 1].map(k => z.reduce((sum, v, d) => sum + (v - it.mean[d]) * it.axes[k][d], 0));

// --- pictures

function paint(values) {  // C x H x W in the model's range -> the large canvas
  const [C, H, W] = it.shape, [low, high] = it.range, image = new ImageData(W, H), plane = H * W;
  const unit = (c, i) => {
    const a = low[c % low.length], b = high[c % high.length];
    return 255 * Math.min(1, Math.max(0, (values[c * plane + i] - a) / (b - a)));
  };
  for (let i = 0; i < plane; i++) {
    const first = unit(0, i), colour = C > 2;
    image.data.set([first, colour ? unit(1, i) : first, colour ? unit(2, i) : first, C === 4 ? unit(3, i) : 255], 4 * i);
  }
  shown.getContext("2d").putImageData(image, 0, 0);
}
function fade([px, py]) {  // between the four nearest images of the grid
  const {low, high, side} = it.grid, [, H, W] = it.shape, from = it.grid_picture;
  if (!from) return;
  const at = (p, k) => Math.min(side - 1.001, Math.max(0, (p - low[k]) / (high[k] - low[k]) * (side - 1)));
  const x = at(px, 0), y = at(py, 1), cx = Math.floor(x), cy = Math.floor(y);
  const [u, v] = it.grid.fades ? [x - cx, y - cy] : [Math.round(x - cx), Math.round(y - cy)];
  const image = new ImageData(W, H), tile = (column, row, i, j, c) => from.data[4 * ((row * H + i) * from.width + column * W + j) + c];
  for (let i = 0; i < H; i++) for (let j = 0; j < W; j++) for (let c = 0; c < 4; c++) {
    image.data[4 * (i * W + j) + c] = (1 - v) * ((1 - u) * tile(cx, cy, i, j, c) + u * tile(cx + 1, cy, i, j, c))
      + v * ((1 - u) * tile(cx, cy + 1, i, j, c) + u * tile(cx + 1, cy + 1, i, j, c));
  }
  shown.getContext("2d").putImageData(image, 0, 0);
}
function write([px, py]) {  // the text of the nearest place of the grid
  const {low, high, side} = it.grid, at = (p, k) => Math.round(Math.min(1, Math.max(0, (p - low[k]) / (high[k] - low[k]))) * (side - 1));
  text.textContent = it.grid.texts[at(py, 1) * side + at(px, 0)];
}
function thumbnail(pen, n, x, y, w, h) {
  const [W, H] = it.tile;
  pen.drawImage(it.picture, n % it.columns * W, Math.floor(n / it.columns) * H, W, H, x, y, w, h);
}
const PAD = 22;
function toScreen([x, y]) {
  const {low, high} = it.view, w = map.clientWidth - 2 * PAD, h = map.clientHeight - 2 * PAD, span = k => Math.max(high[k] - low[k], 1e-9);
  return [PAD + (x - low[0]) / span(0) * w, PAD + (1 - (y - low[1]) / span(1)) * h];
}
function toMap(sx, sy) {
  const {low, high} = it.view, w = map.clientWidth - 2 * PAD, h = map.clientHeight - 2 * PAD;
  return [low[0] + (sx - PAD) / w * (high[0] - low[0]), low[1] + (1 - (sy - PAD) / h) * (high[1] - low[1])];
}
function zoom(times, sx = map.clientWidth / 2, sy = map.clientHeight / 2) {
  const at = toMap(sx, sy), {low, high} = it.view, wide = (high[0] - low[0]) / times, whole = it.high[0] - it.low[0];
  if (wide >= whole) it.view = {low: [...it.low], high: [...it.high]};
  else if (wide > whole / 500) it.view = {low: low.map((v, k) => at[k] + (v - at[k]) / times), high: high.map((v, k) => at[k] + (v - at[k]) / times)};
  drawMap();
}
function drawMap() {
  const ratio = devicePixelRatio || 1, pen = map.getContext("2d"), style = getComputedStyle(root);
  map.width = Math.round(map.clientWidth * ratio); map.height = Math.round(map.clientHeight * ratio);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.imageSmoothingEnabled = false;
  const [W, H] = it.tile, tall = map.clientWidth < 500 ? 18 : it.grid?.texts ? 32 : 24, wide = tall * W / H, taken = [];
  for (let n = 0; n < it.N; n++) {
    const [x, y] = toScreen(it.map[n]), colour = it.labels ? CLASSES[it.labels[n] % CLASSES.length] : style.getPropertyValue("--faint");
    if (x < -wide || y < -tall || x > map.clientWidth + wide || y > map.clientHeight + tall) continue;
    if (it.picture.complete && !taken.some(([a, b]) => Math.abs(a - x) < wide + 3 && Math.abs(b - y) < tall + 3)) {
      taken.push([x, y]);
      pen.fillStyle = colour;
      if (it.labels) pen.fillRect(x - wide / 2 - 1.5, y - tall / 2 - 1.5, wide + 3, tall + 3);
      thumbnail(pen, n, x - wide / 2, y - tall / 2, wide, tall);
    }
  }
  for (let n = 0; n < it.N; n++) {  // those that have no room are dots
    const [x, y] = toScreen(it.map[n]);
    if (taken.some(([a, b]) => Math.abs(a - x) < wide / 2 && Math.abs(b - y) < tall / 2)) continue;
    pen.fillStyle = it.labels ? CLASSES[it.labels[n] % CLASSES.length] : style.getPropertyValue("--faint");
    pen.beginPath(); pen.arc(x, y, 2.5, 0, 7); pen.fill();
  }
  it.ends.forEach((end, k) => {
    if (!end) return;
    const [x, y] = toScreen(onMap([...end]));
    pen.font = "bold 13px system-ui, sans-serif"; pen.textAlign = "center"; pen.textBaseline = "middle";
    pen.fillStyle = style.getPropertyValue("--text"); pen.beginPath(); pen.arc(x, y, 10, 0, 7); pen.fill();
    pen.fillStyle = style.getPropertyValue("--ground"); pen.fillText("AB"[k], x, y + 0.5);
  });
  const [x, y] = toScreen(it.place);
  pen.lineWidth = 4; pen.strokeStyle = style.getPropertyValue("--ground"); pen.beginPath(); pen.arc(x, y, 9, 0, 7); pen.stroke();
  pen.lineWidth = 2; pen.strokeStyle = style.getPropertyValue("--text"); pen.stroke();
}

// --- what is shown

let waiting = false, slowest = 0;
function update(latent) {
  it.latent = latent || latentAt(it.place);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const began = performance.now();
    if (it.decode) paint(it.decode(it.latent)); else if (it.grid.texts) write(it.place); else fade(it.place);
    slowest = performance.now() - began;
    const n = nearest(it.latent), pen = near.getContext("2d");
    pen.clearRect(0, 0, near.width, near.height);
    if (it.picture.complete) thumbnail(pen, n, 0, 0, near.width, near.height);
    const about = [it.labels && it.classes[it.labels[n]], it.names[n]].filter(word => word);
    told.textContent = `nearest held-out image${about.length ? `: ${about.join(", ")}` : ""}`;
    drawMap();
  });
}
function move(place) {
  it.place = [0, 1].map(k => Math.min(it.high[k], Math.max(it.low[k], place[k])));
  update();
}
map.addEventListener("pointerdown", event => {
  map.setPointerCapture(event.pointerId);
  drag(event);
});
map.addEventListener("pointermove", event => { if (map.hasPointerCapture(event.pointerId)) drag(event); });
function drag(event) {
  const box = map.getBoundingClientRect();
  move(toMap(event.clientX - box.left, event.clientY - box.top));
}
map.addEventListener("wheel", event => {
  event.preventDefault();
  const box = map.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
}, {passive: false});
find(".nearer").addEventListener("click", () => zoom(1.5));
find(".farther").addEventListener("click", () => zoom(1 / 1.5));
find(".whole").addEventListener("click", () => zoom(0));
map.addEventListener("keydown", event => {
  if ("+=-0".includes(event.key)) { event.preventDefault(); zoom(event.key === "-" ? 1 / 1.5 : event.key === "0" ? 0 : 1.5); return; }
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key];
  if (!step) return;
  event.preventDefault();
  move(it.place.map((p, k) => p + step[k] * (it.view.high[k] - it.view.low[k]) / (event.shiftKey ? 200 : 50)));
  spoken.textContent = told.textContent;
});

const way = find(".way"), spherical = find(".spherical");
root.querySelectorAll(".end").forEach((button, k) => button.addEventListener("click", () => {
  it.ends[k] = Float32Array.from(it.latent);
  way.disabled = !(it.ends[0] && it.ends[1]);
  drawMap();
}));
function go() {
  if (!(it.ends[0] && it.ends[1])) return;
  const z = between(it.ends[0], it.ends[1], way.value / 100, spherical.checked);
  it.place = onMap([...z]);
  update(it.decode ? z : undefined);
}
way.addEventListener("input", go);
spherical.addEventListener("change", go);
let playing = 0;
const play = find(".play");
play.addEventListener("click", () => {
  if (playing) { clearInterval(playing); playing = 0; play.setAttribute("aria-pressed", "false"); play.textContent = "Play"; return; }
  if (way.disabled) { spoken.textContent = told.textContent = "first keep two places as A and as B"; return; }
  play.setAttribute("aria-pressed", "true"); play.textContent = "Stop";
  let at = 0;
  playing = setInterval(() => {
    at = (at + (still.matches ? 10 : 2)) % 200;
    way.value = at < 100 ? at : 200 - at;
    go();
  }, still.matches ? 500 : 60);
});

function makeSliders() {
  sliders.textContent = "";
  const first = it.decode ? it.std.length : 0;
  for (let k = 0; k < first; k++) {
    if (!(it.std[k] > 1e-6)) continue;
    const label = document.createElement("label"), input = document.createElement("input"), value = document.createElement("output");
    Object.assign(input, {type: "range", min: -3, max: 3, step: 0.05, value: it.offsets[k]});
    label.append(`${k + 1}`, input, value);
    const tell = () => { value.textContent = it.offsets[k] ? `${it.offsets[k] > 0 ? "+" : "−"}${Math.abs(it.offsets[k]).toFixed(1)} σ` : "0"; };
    input.setAttribute("aria-label", `direction ${k + 1}, in standard deviations`);
    input.addEventListener("input", () => { it.offsets[k] = Number(input.value); tell(); update(); });
    tell();
    sliders.append(label);
  }
  find(".directions").hidden = !first;
}
find(".reset").addEventListener("click", () => { it.offsets.fill(0); makeSliders(); update(); });

function makeClasses() {
  const used = it.labels ? [...new Set(it.labels)].sort((a, b) => a - b) : [];
  find(".arithmetic").hidden = !it.decode || used.length < 2;
  if (find(".arithmetic").hidden) return;
  for (const select of [plus, minus]) {
    select.replaceChildren(...["", ...used].map(n => Object.assign(document.createElement("option"), {value: n, textContent: n === "" ? "all images" : it.classes[n]})));
  }
  plus.value = used[0]; minus.value = used[1]; amount.value = 0;
  calculate();
}
function calculate() {
  const a = classMean(plus.value), b = classMean(minus.value), by = Number(amount.value) / 100;
  it.classes_by = by ? {amount: by, step: a.map((v, d) => v - b[d])} : null;
  find(".amount-told").textContent = by.toFixed(2);
}
for (const control of [plus, minus, amount]) control.addEventListener("input", () => { calculate(); update(); });

function choose_run(number) {
  if (!entries[number].loaded) entries[number].loaded = load(entries[number]);
  it = entries[number].loaded;
  const [, H, W] = it.shape;
  shown.width = W; shown.height = H; [near.width, near.height] = it.tile;
  shown.hidden = Boolean(it.grid?.texts); text.hidden = !shown.hidden;
  way.disabled = !(it.ends[0] && it.ends[1]);
  find(".how").textContent = it.decode
    ? "The decoder itself runs in this page."
    : it.grid.texts ? `Texts were decoded at ${it.grid.side} × ${it.grid.side} places of the map; the nearest is shown.` : `The decoder does not run in this page: ${it.grid.fades ? "it fades between" : "it shows the nearest of"} ${it.grid.side} × ${it.grid.side} decoded images.`;
  const legend = find(".classes");
  legend.textContent = "";
  it.classes.slice(0, 40).forEach((name, n) => {
    const entry = document.createElement("span"), swatch = document.createElement("i");
    swatch.style.background = CLASSES[n % CLASSES.length];
    entry.append(swatch, name);
    legend.append(entry);
  });
  makeSliders();
  makeClasses();
  update();
}
choose?.addEventListener("change", () => choose_run(Number(choose.value)));
addEventListener("resize", () => drawMap());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawMap());
choose_run(0);
window.aelabExplorer = {move, state: () => ({place: it.place, milliseconds: slowest, latent: [...it.latent]})};
})();
