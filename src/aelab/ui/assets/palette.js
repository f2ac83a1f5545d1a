// The colours of lines and of classes.

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

/** The colour of a class by its number: those of the lines, then three more. */
const CLASSES = [...PALETTE, "#8c564b", "#6a3d9a", "#b2df8a"];
export const classColour = number => CLASSES[number % CLASSES.length];
