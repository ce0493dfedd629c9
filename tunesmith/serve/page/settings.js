/*
 * The panel of settings: system message, sampling, and what the model is.
 */

import { button, find, make, setChildren, visible } from "./dom.js";
import { OWN, chosenModel, keepSettings, presetSampling, shownSampling, state } from "./state.js";

const SLIDERS = [
  {
    name: "temperature",
    from: 0,
    to: 2,
    step: 0.05,
    about: "0 takes the most likely token each time; higher is more varied",
  },
  {
    name: "top_p",
    from: 0.05,
    to: 1,
    step: 0.05,
    about: "keep the most likely tokens up to this probability; 1 keeps all",
  },
  { name: "top_k", from: 0, to: 200, step: 1, about: "keep so many of the most likely tokens; 0 keeps all" },
  {
    name: "typical_p",
    from: 0.05,
    to: 1,
    step: 0.05,
    about: "keep the most typical tokens up to this probability; 1 keeps all",
  },
  { name: "repetition_penalty", from: 1, to: 2, step: 0.05, about: "1 is no penalty for tokens that occurred before" },
  { name: "max_new_tokens", from: 1, to: 2048, step: 1, about: "the longest reply" },
  { name: "min_new_tokens", from: 0, to: 64, step: 1, about: "the shortest reply" },
];

export class Settings {
  /** actions: system(text). */
  constructor(actions) {
    this.actions = actions;
    this.panel = find("#settings");
    this.toggleButton = find("#settings-toggle");
    this.toggleButton.addEventListener("click", () => this.toggle());
    this.panel.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.toggle(false);
    });
  }

  toggle(open = this.panel.hidden) {
    this.panel.hidden = !open;
    this.toggleButton.setAttribute("aria-expanded", String(open));
    if (open) {
      this.render();
      find("textarea, input", this.panel)?.focus();
    } else this.toggleButton.focus();
  }

  render() {
    if (this.panel.hidden) return;
    const model = chosenModel();
    const head = make(
      "div",
      { class: "row" },
      make("h2", { text: "Settings" }),
      button("Close", () => this.toggle(false), { class: "quiet" }),
    );
    setChildren(this.panel, [head, ...this.systemPart(model), ...this.samplingPart(), ...this.modelPart(model)]);
  }

  systemPart(model) {
    const fits = model?.system !== false;
    const area = make("textarea", {
      rows: "4",
      id: "system",
      "aria-describedby": "system-note",
      dir: "auto",
      disabled: !fits,
    });
    area.value = state.conversation?.system ?? this.system ?? "";
    area.addEventListener("change", () => {
      this.system = area.value;
      this.actions.system(area.value);
    });
    const text = fits
      ? "What the model should know or be. It applies to the replies that follow in this conversation."
      : `The prompt format ${visible(model.format)} has no place for a system message.`;
    return [
      make("label", { class: "field", for: "system" }, make("span", { text: "System message" })),
      area,
      make("p", { class: "note", id: "system-note", text }),
    ];
  }

  samplingPart() {
    const shown = shownSampling();
    const rows = SLIDERS.map((each) => this.slider(each, shown[each.name] ?? 0));
    const seed = make("input", {
      id: "seed",
      inputmode: "numeric",
      placeholder: "a new one each time",
      pattern: "[0-9]{0,9}",
      maxlength: "9",
    });
    seed.value = state.settings.seed;
    seed.addEventListener("change", () => keepSettings({ seed: seed.value.trim() }));
    const greedy =
      shown.do_sample === false
        ? [
            make("p", {
              class: "note",
              text: "It is greedy: the most likely token is taken. Moving the temperature lets it draw.",
            }),
          ]
        : [];
    const changed = Object.keys(state.settings.sampling).length > 0;
    const reset = button(
      "Back to the preset",
      () => {
        keepSettings({ sampling: {} });
        this.render();
      },
      { disabled: !changed },
    );
    return [
      make("h3", { text: `Sampling: ${state.settings.preset}${changed ? ", changed" : ""}` }),
      ...greedy,
      ...rows,
      make("div", { class: "slider" }, make("label", { for: "seed", text: "seed" }), seed),
      reset,
      this.check("blind", "Hide the names of models until one reply is chosen"),
    ];
  }

  slider({ name, from, to, step, about }, value) {
    const id = `set-${name}`;
    const range = make("input", { type: "range", id, min: from, max: to, step, "aria-describedby": `${id}-about` });
    const number = make("input", { type: "number", min: from, step, "aria-label": `${name} as a number` });
    range.value = number.value = value;
    const set = (given) => {
      if (given === "" || !Number.isFinite(Number(given))) return;
      const sampling = { ...state.settings.sampling, [name]: Number(given) };
      if (name === "temperature") sampling.do_sample = Number(given) > 0;
      if (presetSampling(state.settings.preset)[name] === Number(given) && name !== "temperature")
        delete sampling[name];
      keepSettings({ sampling });
      range.value = number.value = given;
    };
    range.addEventListener("input", () => set(range.value));
    number.addEventListener("change", () => set(number.value));
    return make(
      "div",
      { class: "slider" },
      make("label", { for: id, text: name }),
      range,
      number,
      make("span", { class: "note", id: `${id}-about`, text: about }),
    );
  }

  check(name, text) {
    const box = make("input", { type: "checkbox", role: "switch", checked: Boolean(state.settings[name]) });
    box.addEventListener("change", () => {
      keepSettings({ [name]: box.checked });
      this.actions.changed();
    });
    return make("label", { class: "switch" }, box, make("span", { text }));
  }

  modelPart(model) {
    if (!model) return [];
    const facts = [["name", model.name]];
    if (model.open) {
      facts.push(
        ["prompt format", model.format],
        ["context", model.context ? `${model.context.toLocaleString("en")} tokens` : "not limited"],
      );
      if (!model.multi_turn) facts.push(["turns", "one: the model reads only the last message"]);
      if (model.notice) facts.push(["note", model.notice]);
    } else facts.push(["state", "it is loaded with the first message"]);
    const rows = facts.flatMap(([name, text]) => [
      make("dt", { text: name }),
      make("dd", { text: visible(String(text)) }),
    ]);
    return [make("h3", { text: "Model" }), make("dl", { class: "inputs" }, ...rows)];
  }
}

function option(value, text) {
  const made = make("option", { value });
  made.textContent = text;
  return made;
}

/** The models that the chosen one can be compared with: drafts compare it with itself. */
function fillSecond() {
  const first = chosenModel()?.name;
  const others = state.models.map((model) => model.name).filter((name) => name !== first);
  setChildren(find("#second"), [option("", "no other"), ...others.map((name) => option(name, visible(name)))]);
  find("#second").value = others.includes(state.settings.second) ? state.settings.second : "";
  find("#second").closest("label").hidden = !others.length;
}

/** Fill the choices of model, comparison, drafts and preset. changed: called after each choice. */
export function fillChoices(changed) {
  const { settings } = state;
  const names = state.models.map((model) => model.name);
  setChildren(
    find("#model"),
    names.map((name) => option(name, visible(name))),
  );
  setChildren(
    find("#preset"),
    [OWN, ...state.presets.map((preset) => preset.name)].map((name) => option(name, name)),
  );
  find("#model").value = chosenModel()?.name ?? "";
  fillSecond();
  find("#drafts").value = String(settings.drafts);
  find("#preset").value = settings.preset;
  if (!find("#preset").value) find("#preset").value = OWN;
  const listen = (id, take) => {
    find(id).onchange = (event) => {
      keepSettings(take(event.target.value));
      fillSecond();
      changed();
    };
  };
  listen("#model", (model) => ({ model }));
  listen("#second", (second) => ({ second }));
  listen("#drafts", (drafts) => ({ drafts: Number(drafts) }));
  listen("#preset", (preset) => ({ preset, sampling: {} }));
}
