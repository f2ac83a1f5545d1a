// The table: only the rows in sight exist, so that thousands scroll smoothly.
import {styles} from "./colours.js";
import {count, find, make, swatch} from "./dom.js";
import {compare, drawn, groups, keys, listed, runs, seeds, shownColumns, columns, text} from "./runs.js";
import {change, state} from "./state.js";
import {highlight, onHighlight} from "./highlight.js";

const ROW = 30, SPARE = 16, STEP = 8;  // height of a row in pixels, as in the style sheet; rows beside what is seen
const scroller = find("#scroller"), body = find("#scroller tbody"), closed = new Set(), made = new Map();
let items = [], cursor = 0, tabbed = 0, chosen = new Map(), shown = [], anchor = null, range = "";

export function drawTable() {
  const list = listed();
  shown = shownColumns();
  chosen = styles(drawn(list));
  const focused = document.activeElement?.closest?.("#scroller tbody tr"), kept = items[cursor]?.key;
  items = [];
  if (state.group) {
    for (const [name, members] of groups(list)) {
      items.push({key: `group ${name}`, name, members});
      if (!closed.has(name)) for (const run of members) items.push({key: run.folder, run});
    }
  } else for (const run of list) items.push({key: run.folder, run});
  const place = items.findIndex(item => item.key === kept);
  cursor = place >= 0 ? place : Math.min(cursor, Math.max(0, items.length - 1));
  drawHead(list);
  range = "";
  drawRows(Boolean(focused));
  const picked = state.picked.filter(folder => runs.has(folder)).length;
  find("#count").textContent = `${list.length} of ${runs.size} runs${picked ? `, ${picked} selected` : ""}`;
  find("#clear").disabled = !picked;
  const tally = {};
  for (const run of runs.values()) tally[run.state] = (tally[run.state] || 0) + 1;
  find("#states").replaceChildren(...Object.entries(tally).sort(([a], [b]) => compare(a, b)).map(([name, number]) => {
    const press = make("button", {type: "button", class: `badge ${name}`, text: `${number} ${name}`, title: `show runs that are ${name}`});
    press.addEventListener("click", () => change({filter: state.filter === `state="${name}"` ? "" : `state="${name}"`}));
    return make("li", {}, press);
  }));
  find("#report").href = `/report?${new URLSearchParams(state.picked.map(folder => ["run", folder]))}`;
}

function drawHead(list) {
  const table = find("#scroller table"), widths = shown.map(each => width(each, list));
  table.style.width = `max(100%, ${widths.reduce((sum, each) => sum + each, 0)}px)`;
  find("colgroup", table).replaceChildren(...widths.map(each => { const col = make("col"); col.style.width = `${each}px`; return col; }));
  const focused = document.activeElement?.dataset?.sort;
  find("thead", table).replaceChildren(make("tr", {"aria-rowindex": 1}, ...shown.map(each => {
    const is = state.sort === each.name;
    const button = make("button", {type: "button", class: "sorter", "data-sort": each.name, title: each.hint ?? null,
      on: {click: () => change({down: is && !state.down, sort: each.name})}}, each.name, make("span", {class: "arrow", "aria-hidden": "true"}));
    return make("th", {scope: "col", class: each.right ? "right" : null, "aria-sort": is ? state.down ? "descending" : "ascending" : null}, button);
  })));
  if (focused) find(`[data-sort="${CSS.escape(focused)}"]`, table)?.focus();
  table.setAttribute("aria-rowcount", items.length + 1);
  options();
}
function width(each, list) {
  if (each.name === "state") return 100;
  if (each.name === "images") return list.some(run => run.state === "running") ? 140 : 84;
  let longest = each.name.length + 2;
  for (const run of list) longest = Math.max(longest, String((each.text || each.value)(run) ?? "").length);
  if (each.name === "run") return Math.min(270, Math.max(140, 6.9 * longest + 74));
  return Math.min(220, Math.max(50, 7.6 * longest + 23));
}

function drawRows(refocus = false) {
  // In steps of some rows: most frames of a scroll change nothing.
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW / STEP) * STEP - SPARE);
  const last = Math.min(items.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW / STEP) * STEP + SPARE);
  const now = `${first} ${last} ${cursor} ${refocus}`;
  if (now === range) return;
  if (!range) made.clear();
  range = now;
  const gap = height => { const row = make("tr", {"aria-hidden": "true", class: "gap"}, make("td", {colspan: shown.length})); row.style.height = `${height}px`; return row; };
  // One row is reached by the tab key: the one that had the focus, else the first in sight.
  const inSight = Math.min(last - 1, Math.ceil(scroller.scrollTop / ROW));
  tabbed = cursor >= first && cursor < last ? cursor : inSight;
  const rows = [];
  if (first > 0) rows.push(gap(first * ROW));
  for (const place of [...made.keys()]) if (place < first || place >= last) made.delete(place);
  for (let place = first; place < last; place++) {
    if (!made.has(place)) made.set(place, items[place].run ? rowOf(items[place].run, place) : groupRow(items[place], place));
    made.get(place).tabIndex = place === tabbed ? 0 : -1;
    rows.push(made.get(place));
  }
  if (last < items.length) rows.push(gap((items.length - last) * ROW));
  const had = refocus || body.contains(document.activeElement);
  for (const row of [...body.children]) if (!rows.includes(row)) row.remove();
  rows.forEach((row, place) => { if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null); });
  if (had) find('tr[tabindex="0"]', body)?.focus({preventScroll: true});
}

function rowOf(run, place) {
  const picked = state.picked.includes(run.folder);
  const row = make("tr", {class: "run", "data-run": run.folder, "aria-selected": String(picked), "aria-rowindex": place + 2, title: run.error || run.note || null});
  for (const each of shown) row.append(cellOf(each, run, picked));
  return row;
}
function cellOf(each, run, picked) {
  if (each.name === "run") {
    const open = make("button", {type: "button", class: "open", tabindex: -1, "data-open": run.folder, title: `${run.folder}: open`, text: each.text(run)});
    const mark = chosen.has(run.folder) ? swatch(chosen.get(run.folder)) : make("span", {class: "noswatch"});
    const signs = make("span", {class: "signs"});
    if (run.incidents) signs.append(make("span", {class: "sign bad", title: `${run.incidents} incidents`, role: "img", "aria-label": `${run.incidents} incidents`, text: "✕"}));
    if (run.warnings) signs.append(make("span", {class: "sign warm", title: `${run.warnings} warnings`, role: "img", "aria-label": `${run.warnings} warnings`, text: "!"}));
    if (run.note) signs.append(make("span", {class: "sign", title: run.note, role: "img", "aria-label": "has a note", text: "✎"}));
    return make("td", {class: "name"}, make("div", {class: "cell"}, make("span", {class: picked ? "box on" : "box", "aria-hidden": "true"}), mark, open, signs));
  }
  if (each.name === "state") return make("td", {}, make("span", {class: `badge ${run.state}`, text: run.state}));
  if (each.name === "tags") return make("td", {}, ...run.tags.map(tag => make("span", {class: "tag", text: tag})));
  if (each.name === "images" && run.state === "running" && run.max_images) {
    const share = Math.min(1, run.images / run.max_images), bar = make("i");
    bar.style.width = `${100 * share}%`;
    return make("td", {class: "right"}, make("span", {class: "progress", role: "progressbar", "aria-label": "images seen", "aria-valuenow": Math.round(100 * share)}, bar), count(run.images));
  }
  return make("td", {class: each.right ? "right" : null, text: text((each.text || each.value)(run))});
}
function groupRow(item, place) {
  const losses = item.members.map(run => run.best).filter(loss => loss !== null), open = !closed.has(item.name);
  const mean = losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
  const told = losses.length ? `, best loss ${mean.toPrecision(4)} on average (${Math.min(...losses).toPrecision(4)} to ${Math.max(...losses).toPrecision(4)})` : "";
  const cell = make("td", {colspan: shown.length}, make("div", {class: "cell"}, make("span", {class: "fold", "aria-hidden": "true", text: open ? "▾" : "▸"}),
    ...chosen.has(item.members[0].folder) && !state.colour ? [swatch(chosen.get(item.members[0].folder))] : [],
    make("strong", {text: item.name}), ` ${item.members.length} run${item.members.length > 1 ? "s" : ""}${told}`));
  return make("tr", {class: "group-row", "data-group": item.name, "aria-expanded": String(open), "aria-rowindex": place + 2}, cell);
}

// --- selecting

function toggle(folder) {
  change({picked: state.picked.includes(folder) ? state.picked.filter(each => each !== folder) : [...state.picked, folder]});
}
function pickUpTo(place) {  // from the last toggled row to this one
  const from = anchor === null ? place : anchor, part = items.slice(Math.min(from, place), Math.max(from, place) + 1);
  change({picked: [...new Set([...state.picked, ...part.filter(item => item.run).map(item => item.run.folder)])]});
}
function fold(name) {
  if (!closed.delete(name)) closed.add(name);
  drawTable();
}
function act(place, event) {
  const item = items[place];
  if (!item) return;
  if (!item.run) { fold(item.name); return; }
  if (event.shiftKey) pickUpTo(place); else { anchor = place; toggle(item.run.folder); }
}
const placeOf = node => { const row = node.closest("tr[aria-rowindex]"); return row && body.contains(row) ? Number(row.getAttribute("aria-rowindex")) - 2 : -1; };

body.addEventListener("click", event => {
  const open = event.target.closest("[data-open]"), place = placeOf(event.target);
  if (place < 0) return;
  cursor = place;
  if (open) change({run: open.dataset.open}); else act(place, event);
});
body.addEventListener("mousedown", event => { if (event.shiftKey) event.preventDefault(); });  // no text is selected
body.addEventListener("mouseover", event => highlight(event.target.closest("[data-run]")?.dataset.run ?? null));
body.addEventListener("mouseleave", () => highlight(null));
body.addEventListener("focusin", event => { const place = placeOf(event.target); if (place >= 0) { cursor = place; highlight(items[place]?.run?.folder ?? null); } });
body.addEventListener("keydown", event => {
  const page = Math.max(1, Math.floor(scroller.clientHeight / ROW) - 2);
  const step = {ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -items.length, End: items.length}[event.key];
  if (step !== undefined) {
    event.preventDefault();
    cursor = Math.min(items.length - 1, Math.max(0, cursor + step));
    const head = find("thead", scroller).offsetHeight, top = cursor * ROW;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    if (top + ROW + head > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + ROW + head - scroller.clientHeight;
    if (event.shiftKey) pickUpTo(cursor);
    drawRows(true);
  } else if (event.key === " ") { event.preventDefault(); act(cursor, event); }
  else if (event.key === "Enter") {
    event.preventDefault();
    const item = items[cursor];
    if (item?.run) change({run: item.run.folder}); else if (item) fold(item.name);
  } else if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    change({picked: items.filter(item => item.run).map(item => item.run.folder)});
  } else if (event.key === "Escape") change({picked: []});
});
let waiting = 0;
scroller.addEventListener("scroll", () => { if (!waiting) waiting = requestAnimationFrame(() => { waiting = 0; drawRows(); }); }, {passive: true});
new ResizeObserver(() => drawRows()).observe(scroller);
onHighlight(folder => { for (const row of body.querySelectorAll("[data-run]")) row.classList.toggle("focus", row.dataset.run === folder); });

// --- the columns, and by what runs are grouped and coloured

function options() {
  const box = find("#columns"), all = columns(), shownNames = new Set(shown.map(each => each.name)), now = all.map(each => `${each.name}${shownNames.has(each.name)}`).join("\n");
  if (box.dataset.now === now) return;
  box.dataset.now = now;
  const focused = document.activeElement?.dataset?.column;
  box.replaceChildren(...all.filter(each => each.name !== "run").map(each => make("label", {}, make("input", {type: "checkbox", "data-column": each.name, checked: shownNames.has(each.name), on: {
    change: event => change({columns: event.target.checked ? [...shownNames, each.name] : [...shownNames].filter(name => name !== each.name)}),
  }}), ` ${each.name}`)));
  if (focused) find(`[data-column="${CSS.escape(focused)}"]`, box)?.focus();
}
export const groupings = () => [["", "nothing"], ...seeds.some(key => keys.includes(key)) && keys.some(key => !seeds.includes(key)) ? [["*", "setting (all but the seed)"]] : [], ...keys.map(key => [key, key]), ["state", "state"], ["tags", "tags"]];
