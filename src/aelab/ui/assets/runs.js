// The runs as the server told them, their columns, and which of them are listed, drawn, together.
import {count, digits} from "./dom.js";
import {state} from "./state.js";

export const runs = new Map();
/** Matrix keys that differ between runs, keys that only repeat a setting, names of measures. */
export let keys = [], seeds = [], measures = [];
let prefix = "", labels = new Map();
export const SHOWN = 12;  // runs that are drawn without a selection

export const {compare} = new Intl.Collator("en", {numeric: true});  // localeCompare makes one for each call

export function takeRuns(list, gone = [], seedKeys = null) {
  for (const run of list) runs.set(run.folder, run);
  for (const folder of gone) runs.delete(folder);
  if (seedKeys) seeds = seedKeys;
  const values = {}, found = new Set();
  for (const run of runs.values()) {
    for (const [key, value] of Object.entries(run.matrix)) (values[key] ||= new Set()).add(text(value));
    for (const name of Object.keys(run.measures)) found.add(name);
  }
  keys = Object.keys(values).filter(key => values[key].size > 1 || runs.size === 1);
  measures = [...found];
  prefix = commonFolder([...runs.keys()]);
  labels = labelled();
}

/** The label of each run by its folder: its values, with the end of its name where others have the same values. */
function labelled() {
  const alike = Map.groupBy(runs.values(), run => keys.every(key => key in run.matrix) ? keys.map(key => text(run.matrix[key])).join(", ") : "");
  const found = new Map();
  for (const [values, group] of alike) {
    const shared = commonFolder(group.map(run => run.folder)).length;
    for (const run of group) {
      const name = run.folder.slice(shared);
      found.set(run.folder, !values ? shortName(run.folder) : group.length === 1 ? values : `${values}, ${name}`);
    }
  }
  return found;
}

/** What all names begin with, cut behind a whole part: `kld/ds-mnist_` of `kld/ds-mnist_lr-1` and `kld/ds-mnist_lr-2`. */
function commonFolder(folders) {
  if (folders.length < 2) return "";
  let first = folders[0];
  for (const folder of folders) while (!folder.startsWith(first)) first = first.slice(0, -1);
  return first.slice(0, Math.max(first.lastIndexOf("/"), first.lastIndexOf("_")) + 1);
}

export const text = value => value === null || value === undefined ? "" : Array.isArray(value) ? value.map(text).join(",") : String(value);
/** The name of a run without what all runs share. */
export const shortName = folder => folder.slice(prefix.length);
// Where the axes have columns, the end of a long name tells more than its beginning.
const tail = name => keys.length && name.length > 17 ? `…${name.slice(-16)}` : name;
/** What tells a run from the others: `mnist, 16, 0.001`, `0.001, trial-2`; its name where it has no values. */
export const label = run => labels.get(run.folder) ?? shortName(run.folder);

// --- columns

const FIXED = [
  {name: "run", value: run => run.folder, text: run => tail(shortName(run.folder)), usual: true},
  {name: "state", value: run => run.state, usual: true},
  {name: "best", right: true, value: run => run.best, text: run => digits(run.best), usual: true, hint: "lowest validation loss"},
  {name: "loss", right: true, value: run => run.loss, text: run => digits(run.loss), usual: true, hint: "last validation loss"},
  {name: "images", right: true, value: run => run.images, text: run => count(run.images), usual: true},
  {name: "minutes", right: true, value: run => run.minutes, text: run => digits(run.minutes), usual: true},
  {name: "images/s", right: true, value: run => run.speed, text: run => digits(run.speed)},
  {name: "parameters", right: true, value: run => run.parameters, text: run => run.parameters === null ? "" : count(run.parameters), usual: true},
  {name: "warnings", right: true, value: run => run.warnings, text: run => run.warnings ? String(run.warnings) : ""},
  {name: "incidents", right: true, value: run => run.incidents, text: run => run.incidents ? String(run.incidents) : ""},
  {name: "objective", value: run => run.objective},
  {name: "tags", value: run => run.tags.join(", ") || null, usual: true},
  {name: "note", value: run => run.note || null},
];
export function columns() {
  const own = keys.map(key => ({name: key, axis: true, usual: true, value: run => run.matrix[key] ?? null, text: run => text(run.matrix[key])}));
  const measured = measures.map(name => ({name, right: true, usual: true, value: run => run.measures[name] ?? null, text: run => digits(run.measures[name])}));
  return [FIXED[0], ...own, ...FIXED.slice(1), ...measured];
}
export const column = name => columns().find(each => each.name === name);
/** The columns of the table: those chosen, else the usual ones that say something. */
export function shownColumns() {
  const all = columns();
  if (state.columns.length) return all.filter(each => each.name === "run" || state.columns.includes(each.name));
  return all.filter(each => each.usual && (each.name !== "tags" || [...runs.values()].some(run => run.tags.length)) || each.name === state.sort);
}
/** Columns of numbers, and axes, whose values differ: what can be drawn against each other. */
export function relatable() {
  return columns().filter(each => {
    if (!each.axis && !each.right && each.name !== "state") return false;
    const values = new Set([...runs.values()].map(run => each.value(run)).filter(value => value !== null).map(text));
    return values.size > 1;
  });
}

// --- the filter: words, key=value[,value], key<number, key>=number, and -word for "not"

const TERM = /^([^<>=]+)(<=|>=|=|<|>)(.*)$/;
const bare = word => word.replaceAll('"', "");
export const terms = filter => filter.match(/(?:[^\s"]+|"[^"]*")+/g) ?? [];

function fitsTerm(run, word, all) {
  if (word.startsWith("-") && word.length > 1) return !fitsTerm(run, word.slice(1), all);
  const found = TERM.exec(bare(word));
  if (found) {
    const [, key, sign, given] = found, name = key.toLowerCase();
    if (name === "tag") return given === "" ? run.tags.length > 0 : run.tags.some(tag => tag.toLowerCase() === given.toLowerCase());
    const value = all.get(name)?.value(run);
    if (value === undefined || value === null) return false;
    if (sign === "=") return given.toLowerCase().split(",").includes(text(value).toLowerCase());
    const number = Number(value), limit = Number(given);
    if (typeof value === "string" && Number.isNaN(number)) return false;
    return sign === "<" ? number < limit : sign === ">" ? number > limit : sign === "<=" ? number <= limit : number >= limit;
  }
  const words = `${run.folder} ${run.state} ${run.tags.join(" ")} ${run.note} ${Object.entries(run.matrix).map(([key, value]) => `${key}=${text(value)}`).join(" ")}`;
  return words.toLowerCase().includes(bare(word).toLowerCase());
}
export function fits(run, all = byName(), words = terms(state.filter)) {
  return words.every(word => fitsTerm(run, word, all));
}
const byName = () => new Map(columns().map(each => [each.name.toLowerCase(), each]));

/** The filter with the terms of a column replaced by others. */
export function narrowed(name, made) {
  const kept = terms(state.filter).filter(word => TERM.exec(bare(word))?.[1] !== name);
  const quoted = made.map(word => /\s/.test(word) ? `"${word}"` : word);
  return [...kept, ...quoted].join(" ");
}

// --- lists

export const groupOf = run => {
  if (!state.group) return "";
  const own = state.group === "*" ? keys.filter(key => !seeds.includes(key)) : [state.group];
  if (state.group === "state") return run.state;
  if (state.group === "tags") return run.tags.join(", ") || "no tag";
  return own.filter(key => key in run.matrix).map(key => `${key}=${text(run.matrix[key])}`).join(", ") || "no value";
};
export function ordered(list) {
  const chosen = column(state.sort) ?? FIXED[0], sign = state.down ? -1 : 1;
  const order = (a, b) => {
    const x = chosen.value(a), y = chosen.value(b);
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : compare(text(x), text(y)));
  };
  return list.sort((a, b) => order(a, b) || compare(a.folder, b.folder));
}
export function listed() {
  const all = byName(), words = terms(state.filter);
  return ordered([...runs.values()].filter(run => fits(run, all, words)));
}
/** Listed runs by the value that they are grouped by, in the order of the list. */
export function groups(list) {
  const found = new Map();
  for (const run of list) {
    const name = groupOf(run);
    if (!found.has(name)) found.set(name, []);
    found.get(name).push(run);
  }
  return found;
}
/** The runs that curves and pictures show: the selected ones, else the first of the list. */
export function drawn(list = listed()) {
  const picked = new Set(state.picked), chosen = list.filter(run => picked.has(run.folder));
  if (chosen.length) return chosen;
  return state.group ? list.slice(0, 4 * SHOWN) : list.slice(0, SHOWN);
}
