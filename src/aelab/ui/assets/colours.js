// One colour and dash for a run, the same in table, curves, pictures and relations.
import {compare, groupOf, keys, runs, text} from "./runs.js";
import {state} from "./state.js";

// Okabe & Ito's colours for colour-blind readers, as in the report; each dash goes through all of them.
const PALETTE = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#767676"];
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [14, 4], [4, 3, 2, 3]];
const STOPS = [[38, 70, 160], [0, 140, 150], [90, 165, 70], [230, 150, 20]];

export const nth = number => ({colour: PALETTE[number % PALETTE.length], dash: DASHES[Math.floor(number / PALETTE.length) % DASHES.length]});

/** A colour for an ordered value in 0..1: dark blue over green to orange, in rising lightness. */
export function ramp(position) {
  const scaled = Math.min(Math.max(position, 0), 1) * (STOPS.length - 1), low = Math.min(Math.floor(scaled), STOPS.length - 2);
  const mixed = STOPS[low].map((from, i) => Math.round(from + (STOPS[low + 1][i] - from) * (scaled - low)));
  return `rgb(${mixed.join(" ")})`;
}

const valueOf = run => state.colour === "state" ? run.state : state.colour === "tags" ? run.tags.join(", ") : text(run.matrix[state.colour]);

/** Value -> style of the axis that runs are coloured by; of all runs, so that a filter changes nothing. */
export function valueStyles() {
  const values = [...new Set([...runs.values()].map(valueOf))].sort(compare), numbers = values.map(Number);
  if (values.length > 2 && values.every((value, i) => value !== "" && Number.isFinite(numbers[i]))) {
    const sorted = [...numbers].sort((a, b) => a - b);
    return new Map(values.map((value, i) => [value, {colour: ramp(sorted.indexOf(numbers[i]) / (sorted.length - 1)), dash: []}]));
  }
  return new Map(values.map((value, i) => [value, nth(i)]));
}

/** Folder -> style of the runs that are drawn: by axis, else by group, else by place. */
export function styles(shown) {
  if (state.colour) {
    const of = valueStyles();
    return new Map(shown.map(run => [run.folder, of.get(valueOf(run))]));
  }
  if (state.group) {
    const names = [...new Set(shown.map(groupOf))];
    return new Map(shown.map(run => [run.folder, nth(names.indexOf(groupOf(run)))]));
  }
  return new Map(shown.map((run, place) => [run.folder, nth(place)]));
}

export const axes = () => [["", "run"], ...keys.map(key => [key, key]), ["state", "state"], ["tags", "tags"]];
