// A picture through a model: dropped or chosen, encoded, decoded, and its nearest neighbour.
import {address, sendFile} from "./asking.js";
import {digits, find, make, options} from "./dom.js";
import {label, listed} from "./runs.js";

const model = find("#model"), drop = find("#drop"), file = find("#file"), seen = find("#seen");
const link = () => { find("#latents").href = address("/explore", [["run", model.value]]); };

export function drawTried() {
  options(model, listed().filter(run => run.best !== null || run.loss !== null).map(run => [run.folder, label(run)]), model.value);
  link();
}
async function look(picture) {
  if (!picture || !model.value) return;
  seen.replaceChildren(make("p", {text: "opening the model …"}));
  try {
    const told = await sendFile("/api/encode", picture, [["run", model.value]]);
    const shown = (words, src) => make("figure", {}, make("img", {src, alt: words}), make("figcaption", {text: words}));
    seen.replaceChildren(
      shown("as the model sees it", told.given), shown(`reconstruction${told.class && ` as ${told.class}`}, ${told.unit} ${digits(told.error)}`, told.reconstruction),
      shown(`nearest held-out image: ${[told.label, told.name].filter(word => word).join(", ") || "no name"}`, told.nearest),
      make("p", {text: `Code: ${told.code.slice(0, 16).map(digits).join(", ")}${told.code.length > 16 ? ", …" : ""}. ${told.milliseconds.toFixed(1)} ms.`}));
  } catch (error) { seen.replaceChildren(make("p", {class: "error", text: error.message})); }
}
model.addEventListener("change", link);
file.addEventListener("change", () => look(file.files[0]));
drop.addEventListener("dragover", event => { event.preventDefault(); drop.classList.add("over"); });
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", event => { event.preventDefault(); drop.classList.remove("over"); look(event.dataTransfer.files[0]); });
