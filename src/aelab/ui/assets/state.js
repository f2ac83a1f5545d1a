// What is looked at: one state, kept in the address, so that a link restores the view.

const USUAL = {
  sort: "loss", down: false, filter: "", columns: [], picked: [], colour: "", group: "",
  term: "loss", clock: "images", linear: false, split: "heldout", kind: "reproductions", arrange: "moment",
  moment: "", image: "0", worst: false, x: "", y: "", axes: [], first: "", second: "", run: "", still: false,
};
/** `still`: the page as it is now, without live changes, for pictures of it. */
export const state = structuredClone(USUAL);
const listeners = [];

/** Calls `listen` with the set of changed names after each change. */
export const onChange = listen => listeners.push(listen);

export function change(changes) {
  const names = new Set(Object.keys(changes).filter(name => JSON.stringify(state[name]) !== JSON.stringify(changes[name])));
  if (!names.size) return;
  Object.assign(state, changes);
  keep();
  for (const listen of listeners) listen(names);
}

export function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [name, usual] of Object.entries(USUAL)) {
    if (Array.isArray(usual)) state[name] = given.getAll(name);
    else if (typeof usual === "boolean") state[name] = given.has(name);
    else state[name] = given.get(name) ?? usual;
  }
}

function keep() {
  const made = new URLSearchParams();
  for (const [name, usual] of Object.entries(USUAL)) {
    const value = state[name];
    if (Array.isArray(usual)) for (const each of value) made.append(name, each);
    else if (value !== usual) made.set(name, value === true ? "1" : value);
  }
  history.replaceState(null, "", `#${made}`);
}

addEventListener("hashchange", () => {  // somebody pasted a link
  restore();
  for (const listen of listeners) listen(new Set(Object.keys(USUAL)));
});
