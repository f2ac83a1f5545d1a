// One run in a panel: notes and tags, findings, incidents, settings, log.
import {address, ask, newest, send} from "./asking.js";
import {find, make} from "./dom.js";
import {runs, takeRuns} from "./runs.js";
import {change, state} from "./state.js";

const panel = find("#about"), first = newest();
/** Links to the other pages of a run: text, path, and whether they need its model. */
export const LINKS = [["report", "/report", false], ["latent space", "/explore", true]];

export async function drawAbout() {
  if (!state.run || !runs.has(state.run)) { if (panel.open) panel.close(); return; }
  const folder = state.run;
  if (!panel.open) panel.showModal();
  if (panel.dataset.run !== folder) { panel.dataset.run = folder; find("#about-body").replaceChildren(make("p", {class: "hint", text: "reading …"})); }
  find("#about-title").textContent = folder;
  let told;
  try { told = await first(ask("/api/about", [["run", folder]])); } catch (error) { find("#about-body").replaceChildren(make("p", {class: "error", text: error.message})); return; }
  if (told && !panel.contains(document.activeElement?.closest?.("#notes"))) fill(told);
}

const list = (title, entries) => entries.length ? [make("section", {}, make("h3", {text: title}), make("ul", {class: "findings"}, ...entries))] : [];
const folded = (title, ...inside) => make("details", {}, make("summary", {text: title}), ...inside);
const pairs = entries => make("dl", {class: "facts"}, ...entries.map(([name, value]) => make("div", {}, make("dt", {text: name}), make("dd", {text: value}))));

function fill(told) {
  const body = find("#about-body"), links = LINKS.filter(([, , model]) => !model || told.has_model).map(([text, path]) => make("a", {href: address(path, [["run", told.folder]]), text}));
  const levels = {problem: "problem", warning: "warning", note: "note"};
  const error = told.error ? [make("li", {class: "problem"}, make("b", {text: told.state}), ` ${told.error.message} ${told.error.hint ?? ""}`)] : [];
  body.replaceChildren(
    make("p", {class: "over"}, make("span", {class: `badge ${runs.get(told.folder)?.state ?? ""}`, text: told.state}), ` ${told.trend}`),
    make("nav", {"aria-label": "Pages of this run"}, ...links, make("button", {type: "button", class: "link", text: "compare with …", on: {click: () => { change({first: told.folder, run: ""}); find("#compare").scrollIntoView(); find("#second").focus(); }}})),
    notes(told),
    ...list("Error", error),
    ...list("Incidents", told.incidents.map(each => make("li", {class: "problem"}, make("b", {text: each.what ?? "numbers ended"}), ` ${[each.where, each.done, each.advice].filter(word => word).join(" · ")} `, make("a", {href: address("/incidents", [["run", told.folder]]), text: "the whole page"})))),
    ...list("Findings", told.findings.map(each => make("li", {class: levels[each.level]}, make("b", {text: each.level}), ` ${each.line}`))),
    ...list("Damage", told.damage.map(each => make("li", {class: "problem", text: each}))),
    make("section", {}, make("h3", {text: "Facts"}), pairs(told.facts)),
    folded("Configuration", make("pre", {tabindex: 0, text: told.config})),
    folded("Environment", pairs(told.environment)),
    folded("Log, the last lines", make("pre", {tabindex: 0, text: told.log.join("\n")})));
}

function notes(told) {
  const text = make("textarea", {id: "note-text", rows: 3, maxlength: 10000}), tags = make("input", {id: "note-tags", type: "text", autocomplete: "off", spellcheck: "false"});
  text.value = told.notes.text;
  tags.value = told.notes.tags.join(" ");
  const said = make("span", {class: "hint", role: "status", text: told.notes.updated ? `saved ${told.notes.updated.replace("T", " ").slice(0, 16)} UTC` : ""});
  const form = make("form", {id: "notes"}, make("label", {for: "note-text", text: "Note"}), text, make("label", {for: "note-tags", text: "Tags, with spaces between them"}), tags,
    make("div", {class: "tools"}, make("button", {type: "submit", text: "Save"}), said));
  form.addEventListener("submit", async event => {
    event.preventDefault();
    said.textContent = "saving …";
    try {
      const made = await send("/api/notes", {text: text.value, tags: tags.value.split(/[\s,]+/).filter(word => word)}, [["run", told.folder]]);
      tags.value = made.tags.join(" ");
      said.textContent = "saved in the run's folder";
      const run = runs.get(told.folder);
      if (run) { takeRuns([{...run, tags: made.tags, note: made.text.split("\n")[0]}]); document.dispatchEvent(new Event("runs")); }
    } catch (error) { said.textContent = error.message; }
  });
  return form;
}

panel.addEventListener("close", () => { const was = state.run; change({run: ""}); find(`#scroller [data-run="${CSS.escape(was)}"]`)?.focus(); });
panel.addEventListener("click", event => { if (event.target === panel) panel.close(); });  // beside the panel
find("#about-close").addEventListener("click", () => panel.close());
