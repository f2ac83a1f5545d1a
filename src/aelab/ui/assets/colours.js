// One colour and dash for a run, the same in table, curves, pictures and relations.
import {nth, ramp} from "./palette.js";
import {compare, groupOf, keys, runs, text} from "./runs.js";
import {state} from "./state.js";

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
