// Making and finding elements; texts are never parsed as HTML.

export const find = (selector, root = document) => root.querySelector(selector);

/** An element: `text` sets its text, `on` its listeners, null leaves an attribute out. */
export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  return fill(node, attributes, children);
}

/** The same for SVG. */
export function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  return fill(node, attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key === "text") node.textContent = value;
    else if (key === "on") for (const [name, listen] of Object.entries(value)) node.addEventListener(name, listen);
    else if (key === "colour") node.style.setProperty("--colour", value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Sets the options of a select: [value, text] pairs; keeps the element where nothing changed. */
export function options(select, values, chosen) {
  const now = values.map(([value, text]) => `${value}\t${text}`).join("\n");
  if (select.dataset.now !== now) {
    select.dataset.now = now;
    select.replaceChildren(...values.map(([value, text]) => make("option", {value, text})));
  }
  select.value = values.some(([value]) => value === chosen) ? chosen : values[0]?.[0] ?? "";
}

/** A short line in the colour and dash of a run. */
export function swatch({colour, dash = []}) {
  const line = draw("line", {x1: 0, y1: 5, x2: 22, y2: 5, stroke: colour, "stroke-width": 3, "stroke-dasharray": dash.join(" ") || null});
  return draw("svg", {class: "dash", width: 22, height: 10, viewBox: "0 0 22 10", "aria-hidden": "true"}, line);
}

export const count = number => number.toLocaleString("en-US");
export const digits = value => value === null || value === undefined ? "" : String(+Number(value).toPrecision(4));
export const tick = value => value === null ? "" : String(+Number(value).toPrecision(3));
export const short = value => Math.abs(value) >= 1e6 ? `${+(value / 1e6).toPrecision(4)}M` : Math.abs(value) >= 1e3 ? `${+(value / 1e3).toPrecision(4)}k` : digits(value);
export const duration = seconds => {
  const whole = Math.max(0, Math.round(seconds)), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes}:${String(whole % 60).padStart(2, "0")} min` : `${whole} s`;
};
