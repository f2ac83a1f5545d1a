// The page of `aelab ui`: the controls, what is drawn anew when something changes, and the live line.
import {ask} from "./asking.js";
import {axes} from "./colours.js";
import {find, options} from "./dom.js";
import {drawAbout} from "./about.js";
import {drawCompared} from "./compared.js";
import {drawCurves, refreshCurves} from "./curves.js";
import {drawPictures, refreshPictures} from "./pictures.js";
import {drawRelations} from "./relations.js";
import {drawn, runs, takeRuns} from "./runs.js";
import {change, onChange, restore, state} from "./state.js";
import {drawTable, groupings} from "./table.js";
import {takeTraining} from "./training.js";
import {drawTried} from "./tried.js";

// Sections are drawn when they are seen: one that is out of sight is only noted as out of date.
const SECTIONS = {curves: refreshCurves, reproductions: refreshPictures, relations: drawRelations, compare: drawCompared, try: drawTried};
const seen = new Set(), stale = new Set(Object.keys(SECTIONS));
const say = error => { find("#line").textContent = error.message; };
function redraw(...names) {
  for (const name of names) {
    stale.add(name);
    if (seen.has(name)) { stale.delete(name); Promise.resolve(SECTIONS[name]()).catch(say); }
  }
}
const watcher = new IntersectionObserver(entries => {
  for (const entry of entries) {
    if (entry.isIntersecting) seen.add(entry.target.id); else seen.delete(entry.target.id);
    if (entry.isIntersecting && stale.has(entry.target.id) && runs.size) redraw(entry.target.id);
  }
}, {rootMargin: "200px"});

// Which names of the state change what: everything that is not named here only the table.
const LIST = ["filter", "sort", "down", "picked", "group"];
onChange(names => {
  const any = (...some) => some.some(name => names.has(name));
  if (any("filter", "group", "colour", "term", "clock", "linear", "split", "kind", "arrange", "worst")) controls();
  if (any("sort", "down", "filter", "columns", "picked", "colour", "group")) drawTable();
  if (any(...LIST, "term", "clock")) redraw("curves"); else if (any("colour", "linear")) drawCurves();
  if (any(...LIST)) redraw("reproductions"); else if (any("colour", "split", "kind", "arrange", "moment", "image", "worst")) drawPictures();
  if (any(...LIST, "colour", "x", "y", "axes")) redraw("relations");
  if (any(...LIST, "first", "second", "split")) redraw("compare");
  if (any("filter", "sort", "down")) redraw("try");
  if (any("run")) drawAbout();
});

// --- the controls

function controls() {
  if (document.activeElement !== find("#filter")) find("#filter").value = state.filter;
  options(find("#group"), groupings(), state.group);
  options(find("#colour"), axes(), state.colour);
  for (const name of ["clock", "split", "kind", "arrange"]) find(`#${name}`).value = state[name];
  find("#log").checked = !state.linear;
  find("#worst").checked = state.worst;
}
let typing = 0;
find("#filter").addEventListener("input", event => { clearTimeout(typing); typing = setTimeout(() => change({filter: event.target.value}), 120); });
for (const name of ["group", "colour", "term", "clock", "split", "kind", "arrange", "x", "y"]) find(`#${name}`).addEventListener("input", event => change({[name]: event.target.value}));
find("#log").addEventListener("change", event => change({linear: !event.target.checked}));
find("#worst").addEventListener("change", event => change({worst: event.target.checked}));
find("#clear").addEventListener("click", () => change({picked: []}));
find("#copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(location.href);
  find("#copy").textContent = "Copied";
  setTimeout(() => { find("#copy").textContent = "Copy link"; }, 1500);
});
for (const link of document.querySelectorAll("[data-jump]")) link.addEventListener("click", event => {  // the address holds the view
  event.preventDefault();
  find(`#${link.dataset.jump}`).scrollIntoView();
});
let resized = 0;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => { drawCurves(); redraw("relations", "compare"); }, 150); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawCurves(); redraw("compare"); });

// --- what the server tells

function take(told, everything = false) {
  if (told.training) takeTraining(told.training);
  if (!told.runs && !told.changed) return;
  const before = new Set(drawn().map(run => run.folder));
  if (everything) runs.clear();
  const list = told.runs ?? told.changed, gone = told.gone ?? [];
  takeRuns(list, gone, told.seeds ?? null);
  controls();
  drawTable();
  const after = drawn().map(run => run.folder), touched = list.some(run => before.has(run.folder));
  if (everything || touched || gone.length || after.some(folder => !before.has(folder))) redraw("curves", "reproductions");
  redraw("relations", "try");
  if (everything || list.some(run => [find("#first").value, find("#second").value].includes(run.folder))) redraw("compare");
  if (everything || list.some(run => run.folder === state.run)) drawAbout();
}
document.addEventListener("runs", () => { controls(); drawTable(); redraw("curves", "relations"); });

function listen() {
  const events = new EventSource("/api/events"), line = find("#line");
  let lost = false;
  events.onopen = () => {
    line.textContent = "live";
    if (lost) ask("/api/runs").then(told => take(told, true), say);  // what changed meanwhile was not told
    lost = false;
  };
  events.onerror = () => { lost = true; line.textContent = "no connection to aelab ui"; };
  events.onmessage = message => take(JSON.parse(message.data));
}

restore();
ask("/api/runs").then(told => {
  find("#where").textContent = told.where;
  take(told, true);
  for (const name of Object.keys(SECTIONS)) watcher.observe(find(`#${name}`));
  document.documentElement.dataset.ready = "1";
  if (state.still) find("#line").textContent = "not followed"; else listen();
}, say);
