// The experiment files that this page trains: start, stop, how far they are.
import {send} from "./asking.js";
import {count, duration, find, make} from "./dom.js";

export function takeTraining(list) {
  find("#training").hidden = !list.length;
  const focused = document.activeElement?.dataset?.training;
  find("#trainings").replaceChildren(...list.map(each => {
    const runs = each.state === "running", busy = each.state === "stopping";
    const press = make("button", {type: "button", "data-training": each.name, disabled: busy, text: runs ? "Stop and save" : busy ? "Saving …" : "Start", "aria-label": `${runs ? "stop and save" : "start"} ${each.name}`});
    press.addEventListener("click", async () => {
      press.disabled = true;
      try { takeTraining((await send(`/api/training/${runs ? "stop" : "start"}`, {file: each.name})).training); } catch (error) { find("#line").textContent = error.message; press.disabled = false; }
    });
    const share = each.total ? each.done / each.total : 0, bar = make("i");
    bar.style.width = `${100 * share}%`;
    const facts = [each.words, ...runs && each.images_per_second ? [`${count(each.images_per_second)} images/s`] : [], ...runs && each.seconds_left !== null ? [`${duration(each.seconds_left)} left`] : []];
    return make("li", {class: each.state}, make("b", {text: each.name}), press, make("span", {class: "progress", role: "progressbar", "aria-label": `runs of ${each.name} done`, "aria-valuenow": Math.round(100 * share)}, bar),
      make("span", {class: "words", text: facts.join(", ")}), ...each.said.length ? [make("details", {}, make("summary", {text: "messages"}), make("pre", {tabindex: 0, text: each.said.join("\n")}))] : []);
  }));
  if (focused) find(`[data-training="${CSS.escape(focused)}"]`)?.focus();
}
