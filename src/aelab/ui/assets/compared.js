// Two runs beside each other: which is better and whether that is shown, settings, curves, pictures.
import {ask, named, newest} from "./asking.js";
import {nth} from "./palette.js";
import {count, digits, draw, find, make, options, short, swatch, tick} from "./dom.js";
import {keys, label, listed, runs, seeds, text} from "./runs.js";
import {errorsOf, mean, picture, strip} from "./pictures.js";
import {change, state} from "./state.js";

/* global uPlot */
const first = newest(), STYLES = [nth(0), nth(1)];
let charts = [];

/** The two runs: those chosen, else the two selected, else the best runs of two settings. */
function two() {
  const list = listed(), folders = list.map(run => run.folder), picked = state.picked.filter(folder => folders.includes(folder));
  const able = list.filter(run => run.best !== null), setting = run => keys.filter(key => !seeds.includes(key)).map(key => text(run.matrix[key])).join("\n");
  const best = able[0], other = able.find(run => setting(run) !== setting(best)) ?? able[1];
  const usual = picked.length >= 2 ? picked : best && other ? [best.folder, other.folder] : [];
  return [state.first, state.second].map((folder, place) => runs.has(folder) ? folder : usual[place]);
}

export async function drawCompared() {
  const pair = two(), all = listed().map(run => [run.folder, label(run)]);
  for (const [place, id] of ["#first", "#second"].entries()) {
    const known = all.some(([folder]) => folder === pair[place]) || !pair[place] ? all : [[pair[place], label(runs.get(pair[place]))], ...all];
    options(find(id), known, pair[place]);
  }
  const box = find("#compared-body");
  box.hidden = !pair[0] || !pair[1] || pair[0] === pair[1];
  find("#verdict").textContent = box.hidden ? "Choose two runs." : find("#verdict").textContent;
  if (box.hidden) return;
  const told = await first(Promise.all([ask("/api/compare", named(pair)), ask("/api/curves", named(pair)), ask("/api/moments", named(pair))]));
  if (!told) return;
  const [found, curves, moments] = told;
  find("#verdict").textContent = found.verdict;
  find("#facts").replaceChildren(...found.facts.map(fact => make("li", {text: fact})));
  find("#interval").replaceChildren(...found.difference && found.difference.low !== null ? [interval(found.difference)] : []);
  const names = pair.map(folder => label(runs.get(folder)));
  const heads = names.map((name, i) => make("th", {scope: "col"}, swatch(STYLES[i]), " ", name));
  const rows = Object.entries(found.matrix).map(([key, values]) => make("tr", {class: values[0] === values[1] ? "same" : "differs"}, make("th", {scope: "row", text: key}), ...values.map(text => make("td", {text}))));
  for (const [key, of] of [["loss", run => digits(run.loss)], ["best", run => digits(run.best)], ["minutes", run => digits(run.minutes)], ["parameters", run => run.parameters === null ? "" : count(run.parameters)], ["state", run => run.state]]) {
    const values = pair.map(folder => of(runs.get(folder)));
    rows.push(make("tr", {class: values[0] === values[1] ? "same" : "differs"}, make("th", {scope: "row", text: key}), ...values.map(text => make("td", {text}))));
  }
  find("#settings").replaceChildren(make("thead", {}, make("tr", {}, make("td"), ...heads)), make("tbody", {}, ...rows));
  find("#lines").replaceChildren(make("tbody", {}, ...found.lines.map(pair => make("tr", {}, ...pair.map((text, i) => make("td", {class: text ? i ? "added" : "gone" : null, text}))))));
  find("#lines-title").textContent = found.lines.length ? `${found.lines.length} lines of the configurations differ` : "The configurations are the same";
  drawCurves(pair, curves.curves, names);
  await drawPictures(pair, moments, names);
}

/** The difference as a dot on its 95 % interval, with 0 marked. */
function interval({mean: middle, low, high}) {
  const width = 320, reach = Math.max(Math.abs(low), Math.abs(high)) * 1.15 || 1, x = value => width / 2 + value / reach * (width / 2 - 10);
  return draw("svg", {width, height: 46, viewBox: `0 0 ${width} 46`, role: "img", "aria-label": `difference ${digits(middle)}, 95 % interval ${digits(low)} to ${digits(high)}`},
    draw("line", {x1: width / 2, x2: width / 2, y1: 2, y2: 26, class: "zero"}), draw("line", {x1: x(low), x2: x(high), y1: 14, y2: 14, class: "span"}), draw("circle", {cx: x(middle), cy: 14, r: 6, class: "middle"}),
    draw("text", {x: 2, y: 42, class: "mark", text: "first is better"}), draw("text", {x: width / 2, y: 42, class: "mark", "text-anchor": "middle", text: "0"}), draw("text", {x: width - 2, y: 42, class: "mark", "text-anchor": "end", text: "second is better"}));
}

function drawCurves(pair, curves, names) {
  for (const chart of charts) chart.destroy();
  charts = [];
  const sheet = getComputedStyle(document.documentElement), axis = {stroke: sheet.getPropertyValue("--faint"), grid: {stroke: sheet.getPropertyValue("--grid"), width: 1}, ticks: {stroke: sheet.getPropertyValue("--grid")}, font: "12px system-ui, sans-serif"};
  const box = make("div", {class: "plot", role: "img", "aria-label": `Losses of ${names.join(" and ")}: validation as lines, training dotted`});
  find("#two-curves").replaceChildren(make("h3", {text: "Loss: validation, training dotted"}), box);
  const lines = pair.flatMap((folder, i) => [["train", [2, 3]], ["validation", []]].map(([split, dash]) => ({line: curves[folder]?.[split] ?? [[], []], dash, colour: STYLES[i].colour})));
  const xs = [...new Set(lines.flatMap(({line}) => line[0]))].sort((a, b) => a - b);
  if (!xs.length) { box.append(make("p", {class: "empty", text: "Nothing was logged yet."})); return; }
  const place = new Map(xs.map((x, i) => [x, i])), log = lines.some(({line}) => line[1].some(y => y > 0));
  const ys = lines.map(({line}) => { const column = new Array(xs.length).fill(undefined); line[0].forEach((x, i) => { column[place.get(x)] = log && line[1][i] <= 0 ? null : line[1][i]; }); return column; });
  charts.push(new uPlot({width: Math.max(200, box.clientWidth), height: 220, legend: {show: false}, scales: {x: {time: false}, y: {distr: log ? 3 : 1, range: (u, low, high) => log ? [low / 1.06, high * 1.06] : uPlot.rangeNum(low, high, 0.06, true)}}, axes: [{...axis, values: (u, at) => at.map(short)}, {...axis, size: 62, values: (u, at) => at.map(tick)}],
    series: [{}, ...lines.map(({dash, colour}) => ({stroke: colour, dash, width: 1.8, spanGaps: true, points: {show: false}}))]}, [xs, ...ys], box));
}

async function drawPictures(pair, moments, names) {
  const split = state.split, has = pair.filter(folder => moments[folder]?.[split]?.images.length), box = find("#two-pictures");
  if (!has.length) { box.replaceChildren(make("p", {class: "empty", text: "No reproductions are stored yet."})); return; }
  const parts = [], row = (folder, words, source, more) => strip([...words, make("small", {text: more ?? ""})], source, words.map(word => word.textContent).join(" "), moments[folder][split].count, moments[folder][split].size);
  const same = has.length === 2 && moments[pair[0]][split].originals === moments[pair[1]][split].originals;
  for (const [i, folder] of pair.entries()) {
    if (!has.includes(folder)) continue;
    const last = moments[folder][split].images.at(-1), error = mean(await errorsOf(folder, split, last));
    if (i === 0 || !same) parts.push(row(folder, [make("strong", {text: "originals"})], picture(folder, split, null)));
    parts.push(row(folder, [swatch(STYLES[i]), make("span", {text: names[i]})], picture(folder, split, last), `L2 ${digits(error)}`));
    parts.push(row(folder, [swatch(STYLES[i]), make("span", {text: "its difference from the originals"})], picture(folder, split, last, "differences")));
  }
  box.replaceChildren(...parts);
}

for (const [id, name] of [["#first", "first"], ["#second", "second"]]) find(id).addEventListener("input", event => change({[name]: event.target.value}));
find("#swap").addEventListener("click", () => { const [a, b] = two(); change({first: b ?? "", second: a ?? ""}); });
