// The colours of lines and of classes.

import {CLASSES, PALETTE} from "./colour-lists.js";  // made by the server: those of the report

// Each dash goes through all colours.
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [14, 4], [4, 3, 2, 3]];
const STOPS = [[38, 70, 160], [0, 140, 150], [90, 165, 70], [230, 150, 20]];

export const nth = number => ({colour: PALETTE[number % PALETTE.length], dash: DASHES[Math.floor(number / PALETTE.length) % DASHES.length]});

/** A colour for an ordered value in 0..1: dark blue over green to orange, in rising lightness. */
export function ramp(position) {
  const scaled = Math.min(Math.max(position, 0), 1) * (STOPS.length - 1), low = Math.min(Math.floor(scaled), STOPS.length - 2);
  const mixed = STOPS[low].map((from, i) => Math.round(from + (STOPS[low + 1][i] - from) * (scaled - low)));
  return `rgb(${mixed.join(" ")})`;
}

/** The colour of a class by its number. */
export const classColour = number => CLASSES[number % CLASSES.length];
