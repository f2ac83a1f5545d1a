// The run under the pointer or the focus: the same in table, curves, pictures and relations.

const listeners = [];
let now = null;

export const onHighlight = listen => listeners.push(listen);
export const highlighted = () => now;
export function highlight(folder) {
  if (folder === now) return;
  now = folder;
  for (const listen of listeners) listen(folder);
}
