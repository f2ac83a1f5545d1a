// How columns hang together: parallel coordinates, whose brush is the filter, and a scatter plot, whose brush selects.
import {styles} from "./colours.js";
import {digits, draw, find, make, options, tick} from "./dom.js";
import {highlight, onHighlight} from "./highlight.js";
import {column, compare, label, listed, narrowed, relatable, runs, seeds, terms, text} from "./runs.js";
import {change, state} from "./state.js";

const wide = () => Math.max(280, find("#parallel").clientWidth);

/** The scale of a column: place in 0..1 of a value, its marks, and the value at a place. */
function scaleOf(each, list) {
  const values = list.map(run => each.value(run)).filter(value => value !== null);
  const numbers = values.every(value => typeof value === "number");
  if (!numbers || new Set(values).size <= 2) {
    const kinds = [...new Set(values.map(text))].sort(compare), last = Math.max(1, kinds.length - 1);
    return {kinds, place: value => kinds.length === 1 ? 0.5 : kinds.indexOf(text(value)) / last, marks: kinds.map((kind, i) => [kinds.length === 1 ? 0.5 : i / last, numbers ? digits(kind) : kind])};
  }
  const low = Math.min(...values), high = Math.max(...values), log = low > 0 && high / low > 20, by = log ? Math.log10 : value => value;
  const span = by(high) - by(low) || 1, back = place => log ? 10 ** (by(low) + place * span) : low + place * span;
  return {log, place: value => high === low ? 0.5 : (by(value) - by(low)) / span, back, marks: [0, 0.25, 0.5, 0.75, 1].map(place => [place, tick(back(place))])};
}

// --- parallel coordinates

function chosenAxes() {
  const able = relatable(), names = new Set(able.map(each => each.name));
  if (state.axes.length) return state.axes.filter(name => names.has(name)).map(column);
  return able.filter(each => each.axis && !seeds.includes(each.name) || each.name === "best" || each.name === "minutes").slice(0, 8);
}

export function drawRelations() {
  drawParallel();
  drawScatter();
  const chosen = new Set(chosenAxes().map(each => each.name)), box = find("#axes"), able = relatable(), now = able.map(each => `${each.name}${chosen.has(each.name)}`).join("\n");
  if (box.dataset.now === now) return;
  box.dataset.now = now;
  box.replaceChildren(...able.map(each => make("label", {}, make("input", {type: "checkbox", checked: chosen.has(each.name), on: {
    change: event => change({axes: able.map(one => one.name).filter(name => name === each.name ? event.target.checked : chosen.has(name))})}}), ` ${each.name}`)));
}

function drawParallel() {
  const all = [...runs.values()], inside = new Set(listed().map(run => run.folder)), axes = chosenAxes(), box = find("#parallel");
  if (axes.length < 2) { box.replaceChildren(make("p", {class: "empty", text: "Needs two columns whose values differ."})); return; }
  const width = wide(), height = 220, top = 30, bottom = height - 18, left = 40, step = (width - left - 60) / (axes.length - 1);
  const scales = axes.map(each => scaleOf(each, all)), style = styles(listed()), y = place => bottom - place * (bottom - top);
  const svg = draw("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Parallel coordinates of ${inside.size} of ${all.length} runs over ${axes.map(each => each.name).join(", ")}. The filter field does the same as dragging.`});
  const lineOf = run => {
    const points = axes.map((each, i) => { const value = each.value(run); return value === null ? null : [left + i * step, y(scales[i].place(value))]; }).filter(point => point);
    return `M${points.map(point => point.map(number => number.toFixed(1)).join(" ")).join("L")}`;
  };
  for (const run of all) if (!inside.has(run.folder)) svg.append(draw("path", {d: lineOf(run), class: "out"}));
  for (const run of listed().reverse()) {
    const path = draw("path", {d: lineOf(run), class: "in", "data-run": run.folder, stroke: style.get(run.folder).colour});
    path.append(draw("title", {text: `${label(run)}: ${digits(run.best)}`}));
    path.addEventListener("mouseenter", () => highlight(run.folder));
    path.addEventListener("mouseleave", () => highlight(null));
    path.addEventListener("click", () => change({run: run.folder}));
    svg.append(path);
  }
  axes.forEach((each, i) => {
    const x = left + i * step, scale = scales[i];
    svg.append(draw("line", {x1: x, x2: x, y1: top, y2: bottom, class: "axis"}));
    const used = terms(state.filter).some(word => word.replaceAll('"', "").startsWith(each.name) && /[<>=]/.test(word));
    svg.append(draw("text", {x: i === 0 ? 2 : x, y: 14, class: used ? "name used" : "name", "text-anchor": i === 0 ? "start" : "middle", text: each.name + (scale.log ? " (log)" : "")}));
    for (const [place, words] of scale.marks) svg.append(draw("text", {x: x + 5, y: y(place) + 4, class: "mark", text: words.length > 12 ? `${words.slice(0, 11)}…` : words}));
    const handle = draw("rect", {x: x - 12, y: top - 6, width: 24, height: bottom - top + 12, class: "brush", "data-axis": each.name});
    brush(handle, svg, each, scale, at => (bottom - at) / (bottom - top));
    svg.append(handle);
  });
  box.replaceChildren(svg);
}

/** Dragging on an axis narrows the filter to that range; a click on it takes the range away. */
function brush(handle, svg, each, scale, placeAt) {
  handle.addEventListener("pointerdown", event => {
    event.preventDefault();
    handle.setPointerCapture(event.pointerId);
    const frame = svg.getBoundingClientRect(), from = event.clientY - frame.top, x = Number(handle.getAttribute("x"));
    const mark = draw("rect", {x, width: 24, y: from, height: 0, class: "brushed"});
    svg.append(mark);
    const move = moved => { const to = moved.clientY - frame.top; mark.setAttribute("y", Math.min(from, to)); mark.setAttribute("height", Math.abs(to - from)); };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", ended => {
      handle.removeEventListener("pointermove", move);
      const to = ended.clientY - frame.top, [low, high] = [placeAt(Math.max(from, to)), placeAt(Math.min(from, to))];
      if (Math.abs(to - from) < 4) { change({filter: narrowed(each.name, [])}); mark.remove(); return; }
      if (scale.kinds) {
        const kept = scale.kinds.filter(kind => scale.place(kind) >= low - 0.05 && scale.place(kind) <= high + 0.05);
        change({filter: narrowed(each.name, kept.length && kept.length < scale.kinds.length ? [`${each.name}=${kept.join(",")}`] : [])});
      } else change({filter: narrowed(each.name, [...low > 0 ? [`${each.name}>=${digits(scale.back(low))}`] : [], ...high < 1 ? [`${each.name}<=${digits(scale.back(high))}`] : []])});
      mark.remove();
    }, {once: true});
  });
}

// --- scatter

function drawScatter() {
  const able = relatable(), names = able.map(each => [each.name, each.name]), box = find("#scatter");
  if (able.length < 2) { box.replaceChildren(make("p", {class: "empty", text: "Needs two columns whose values differ."})); return; }
  const has = name => able.some(each => each.name === name), y = has(state.y) ? state.y : has("best") ? "best" : names[1][0];
  const x = has(state.x) ? state.x : has("parameters") ? "parameters" : has("minutes") ? "minutes" : names[0][0];
  options(find("#x"), names, x);
  options(find("#y"), names, y);
  const list = listed().filter(run => column(x).value(run) !== null && column(y).value(run) !== null), style = styles(listed()), picked = new Set(state.picked);
  const width = wide(), height = 240, left = 62, right = width - 16, top = 12, bottom = height - 42, across = scaleOf(column(x), list), up = scaleOf(column(y), list);
  const at = run => [left + across.place(column(x).value(run)) * (right - left - 20) + 10, bottom - 8 - up.place(column(y).value(run)) * (bottom - top - 16)];
  const svg = draw("svg", {width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Scatter plot of ${list.length} runs: ${y} over ${x}. Dragging a rectangle selects the runs in it; the table selects them by keyboard.`});
  svg.append(draw("rect", {x: left, y: top, width: right - left, height: bottom - top, class: "field"}));
  for (const [place, words] of across.marks) svg.append(draw("text", {x: left + 10 + place * (right - left - 20), y: bottom + 16, class: "mark", "text-anchor": place > 0.9 ? "end" : "middle", text: words}));
  for (const [place, words] of up.marks) svg.append(draw("text", {x: left - 6, y: bottom - 4 - place * (bottom - top - 16), class: "mark", "text-anchor": "end", text: words.length > 9 ? `${words.slice(0, 8)}…` : words}));
  svg.append(draw("text", {x: (left + right) / 2, y: height - 6, class: "name", "text-anchor": "middle", text: x + (across.log ? " (log)" : "")}));
  for (const run of list) {
    const [cx, cy] = at(run), point = draw("circle", {cx, cy, r: picked.has(run.folder) ? 7 : 5, class: picked.has(run.folder) ? "point picked" : "point", fill: style.get(run.folder).colour, "data-run": run.folder});
    point.append(draw("title", {text: `${label(run)}: ${x} ${text(column(x).value(run))}, ${y} ${text(column(y).value(run))}`}));
    point.addEventListener("mouseenter", () => highlight(run.folder));
    point.addEventListener("mouseleave", () => highlight(null));
    svg.append(point);
  }
  svg.addEventListener("pointerdown", event => {
    const frame = svg.getBoundingClientRect(), from = [event.clientX - frame.left, event.clientY - frame.top], mark = draw("rect", {class: "brushed"});
    svg.append(mark);
    svg.setPointerCapture(event.pointerId);
    const box = moved => { const to = [moved.clientX - frame.left, moved.clientY - frame.top]; return [0, 1].map(i => [Math.min(from[i], to[i]), Math.max(from[i], to[i])]); };
    const move = moved => { const [[a, b], [c, d]] = box(moved); for (const [name, value] of [["x", a], ["y", c], ["width", b - a], ["height", d - c]]) mark.setAttribute(name, value); };
    svg.addEventListener("pointermove", move);
    svg.addEventListener("pointerup", ended => {
      svg.removeEventListener("pointermove", move);
      mark.remove();
      const [[a, b], [c, d]] = box(ended);
      if (b - a < 4 && d - c < 4) {
        const run = document.elementFromPoint(ended.clientX, ended.clientY)?.dataset?.run;
        if (run) change({run});
        return;
      }
      change({picked: list.filter(run => { const [u, v] = at(run); return u >= a && u <= b && v >= c && v <= d; }).map(run => run.folder)});
    }, {once: true});
  });
  box.replaceChildren(svg);
}

onHighlight(folder => {
  for (const mark of document.querySelectorAll("#relations [data-run]")) mark.classList.toggle("focus", mark.dataset.run === folder);
  const line = folder && find(`#parallel [data-run="${CSS.escape(folder)}"]`);
  if (line && !line.matches(":hover")) line.parentNode.insertBefore(line, find("#parallel .axis"));
});
