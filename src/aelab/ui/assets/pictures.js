// Reproductions of the same images: across runs at one moment, or one image over time.
import {address, ask, named, newest} from "./asking.js";
import {styles} from "./colours.js";
import {count, digits, find, make, options, swatch} from "./dom.js";
import {highlight} from "./highlight.js";
import {drawn, label, listed, runs, SHOWN} from "./runs.js";
import {change, state} from "./state.js";

const MOST = 12;  // moments of a film
let moments = {}, first = newest(), measured = newest();
const errors = new Map();  // run, split, moment -> errors of its images

export async function refreshPictures() {
  const folders = drawn().slice(0, SHOWN).map(run => run.folder);
  const found = await first(folders.length ? ask("/api/moments", named(folders)) : Promise.resolve({}));
  if (!found) return;
  moments = found;
  drawPictures();
}

const of = run => moments[run.folder]?.[state.split];
export const picture = (folder, split, images, kind = "reproductions", order = []) => address("/api/picture", [["run", folder], ["split", split], ["kind", kind],
  ...images === null ? [] : [["images", images]], ...order.map(place => ["image", place])]);
/** Errors of the images of a run at a moment, from the server once. */
export async function errorsOf(folder, split, images) {
  const key = `${folder}\n${split}\n${images}`;
  if (!errors.has(key)) errors.set(key, ask("/api/errors", [["run", folder], ["split", split], ["images", images]]).then(told => told.errors, () => []));
  return errors.get(key);
}
export const mean = values => values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;

export function drawPictures() {
  const shown = drawn().slice(0, SHOWN).filter(run => of(run)?.images.length), style = styles(drawn());
  const all = [...new Set(shown.flatMap(run => of(run).images))].sort((a, b) => a - b);
  const overTime = state.arrange === "time", slide = find("#moment");
  const many = Math.max(0, ...shown.map(run => of(run).count));
  slide.max = Math.max(0, (overTime ? many : all.length) - 1);
  const place = overTime ? Math.min(Number(state.image), slide.max) : state.moment === "" ? all.length - 1 : Math.max(0, all.findLastIndex(images => images <= Number(state.moment)));
  slide.value = place;
  find("#moment-label").textContent = overTime ? "Image" : "After";
  find("#moment-text").textContent = !shown.length ? "" : overTime ? of(shown[0]).names[place] ?? "" : `${count(all[place])} images`;
  slide.setAttribute("aria-valuetext", find("#moment-text").textContent);
  find("#worst-label").hidden = overTime;
  const box = find("#pictures");
  if (!shown.length) { box.replaceChildren(make("p", {class: "empty", text: "No reproductions are stored yet."})); return; }
  if (overTime) drawFilms(box, shown, style, place);
  else drawMoment(box, shown, style, all[place]);
  drawWorstChoice();
}

const LARGEST = 72;  // pixels of one image on the page
/** A row of `many` images of a size under its heading; its room is kept while it loads. */
export function strip(head, source, words, many, [width, height], listen = {}) {
  const image = make("img", {src: source, alt: words, width: many * width, height, on: listen});
  image.style.width = `min(100%, ${many * LARGEST}px)`;
  return make("figure", {class: "strip-of"}, make("figcaption", {}, ...head), image);
}
const at = (run, now) => of(run).images.findLast(images => images <= now) ?? of(run).images[0];

async function drawMoment(box, shown, style, now) {
  const groups = new Map();  // runs of the same images under these
  for (const run of shown) groups.set(of(run).originals, [...groups.get(of(run).originals) ?? [], run]);
  const wanted = await measured(Promise.all(shown.map(async run => [run.folder, await errorsOf(run.folder, state.split, at(run, now))])));
  if (!wanted) return;
  const byRun = new Map(wanted), parts = [];
  for (const members of groups.values()) {
    const {names, count: many, size} = of(members[0]), places = [...Array(many).keys()];
    const each = places.map(place => mean(members.map(run => byRun.get(run.folder)?.[place]).filter(error => error !== undefined)));
    const order = state.worst ? places.sort((a, b) => (each[b] ?? 0) - (each[a] ?? 0)) : [];
    const open = {click: event => {  // a click on an image shows it over time
      const box = event.target.getBoundingClientRect(), column = Math.min(many - 1, Math.floor((event.clientX - box.left) / box.width * many));
      change({arrange: "time", image: String(order[column] ?? column)});
    }};
    parts.push(strip([make("strong", {text: "originals"}), make("small", {text: state.worst ? `worst first: ${order.slice(0, 5).map(place => `${names[place]} (${digits(each[place])})`).join(", ")}` : ""})],
      picture(members[0].folder, state.split, null, "reproductions", order), `originals: ${(order.length ? order : places).map(place => names[place]).join(", ")}`, many, size, open));
    for (const run of members) {
      const moment = at(run, now), error = mean(byRun.get(run.folder) ?? []);
      const name = make("button", {type: "button", class: "open", text: label(run), title: run.folder, on: {
        click: () => change({run: run.folder}), mouseenter: () => highlight(run.folder), mouseleave: () => highlight(null), focus: () => highlight(run.folder), blur: () => highlight(null)}});
      if (of(run).hides) parts.push(strip([swatch(style.get(run.folder)), make("span", {text: label(run)}), make("small", {text: "masked input"})],
        picture(run.folder, state.split, null, "inputs", order), `masked input of ${run.folder}`, many, size, open));
      parts.push(strip([swatch(style.get(run.folder)), name, make("small", {text: `${moment === now ? "" : `${count(moment)} images, `}${error === null ? "" : `L2 ${digits(error)}`}`})],
        picture(run.folder, state.split, moment, state.kind, order), `${state.kind} of ${run.folder} after ${count(moment)} images`, many, size, open));
    }
  }
  box.replaceChildren(...parts);
}

function drawFilms(box, shown, style, image) {
  const parts = shown.filter(run => image < of(run).count).map(run => {
    const all = of(run).images, step = Math.max(1, (all.length - 1) / (MOST - 1)), chosen = [...new Set(Array.from({length: Math.min(MOST, all.length)}, (_, i) => all[Math.round(i * step)] ?? all.at(-1)))];
    const source = address("/api/film", [["run", run.folder], ["split", state.split], ["image", image], ["kind", state.kind], ...chosen.map(images => ["images", images])]);
    const name = make("button", {type: "button", class: "open", text: label(run), title: run.folder, on: {click: () => change({run: run.folder}), mouseenter: () => highlight(run.folder), mouseleave: () => highlight(null)}});
    return strip([swatch(style.get(run.folder)), name, make("small", {text: `original, then after ${chosen.map(count).join(", ")}`})], source, `${of(run).names[image]} of ${run.folder} over time: original, then after ${chosen.map(count).join(", ")} images`, chosen.length + 1, of(run).size);
  });
  box.replaceChildren(...parts);
}

// --- the worst of all held-out images, which needs the model

function drawWorstChoice() {
  const able = listed().filter(run => run.best !== null || run.loss !== null).map(run => [run.folder, label(run)]), chosen = find("#worst-run").value;
  const picked = state.picked.find(folder => runs.get(folder)?.loss !== null);
  options(find("#worst-run"), able, able.some(([folder]) => folder === chosen) ? chosen : picked);
}
find("#worst-find").addEventListener("click", async () => {
  const folder = find("#worst-run").value, box = find("#worst-found");
  if (!folder) return;
  box.replaceChildren(make("p", {class: "hint", text: "opening the model …"}));
  try {
    const told = await ask("/api/worst", [["run", folder], ["count", 16]]);
    box.replaceChildren(make("p", {class: "hint", text: `The worst ${told.images.length} of ${count(told.among)} held-out images of ${folder}; mean ${told.unit} ${digits(told.mean)}.`}),
      make("ol", {class: "worst-list"}, ...told.images.map(each => make("li", {}, make("img", {src: each.original, alt: `original of ${each.name}`}), make("img", {src: each.reconstruction, alt: `reconstruction of ${each.name}`}),
        make("span", {}, make("b", {text: each.name}), make("small", {text: [each.label, `${told.unit} ${digits(each.error)}`].filter(word => word).join(", ")}))))));
  } catch (error) { box.replaceChildren(make("p", {class: "error", text: error.message})); }
});

find("#moment").addEventListener("input", event => {
  if (state.arrange === "time") { change({image: event.target.value}); return; }
  const shown = drawn().slice(0, SHOWN).filter(run => of(run)?.images.length), all = [...new Set(shown.flatMap(run => of(run).images))].sort((a, b) => a - b);
  change({moment: Number(event.target.value) === all.length - 1 ? "" : String(all[event.target.value])});
});
