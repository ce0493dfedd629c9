/*
 * The form below the thread: the message, its passage, and whether it is sent or a reply is stopped.
 */

import { find, make, setChildren } from "./dom.js";
import { chosenModel, openDrafts, shownSampling, shownThread, state, writingReplies } from "./state.js";

const DRAFT = "tunesmith.chat.draft";
const HIGHEST = 240; // pixels

export class Composer {
  /** actions: send(text, context), stop(). */
  constructor(actions) {
    this.actions = actions;
    this.area = find("#text");
    this.passage = find("#passage");
    this.area.value = this.readDraft();
    this.area.addEventListener("input", () => this.resize());
    this.area.addEventListener("keydown", (event) => this.key(event));
    find("#composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    find("#stop").addEventListener("click", () => this.stop());
    find("#passage-toggle").addEventListener("click", () => this.togglePassage(this.passage.hidden));
    this.resize();
  }

  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.send();
  }

  send() {
    const text = this.area.value;
    if (!text.trim() || this.isBlocked()) return;
    this.area.value = "";
    this.resize();
    this.actions.send(text, this.passage.hidden ? "" : this.passage.value);
    if (!chosenModel()?.multi_turn) return;
    this.passage.value = "";
    this.togglePassage(false);
  }

  /** Stop the replies that are being written. */
  stop() {
    if (writingReplies().length) this.actions.stop();
  }

  isBlocked() {
    return writingReplies().length > 0 || !chosenModel() || state.loading;
  }

  /** Put a text that was not accepted back, unless something else was written since. */
  giveBack(text) {
    if (!this.area.value) this.put(text);
  }

  put(text) {
    this.area.value = text;
    this.resize();
    this.focus();
  }

  focus() {
    this.area.focus();
  }

  togglePassage(open) {
    this.passage.hidden = !open;
    find("#passage-toggle").setAttribute("aria-expanded", String(open));
    find("#passage-toggle").textContent = open ? "Without a passage" : "Add a passage";
    if (open) this.passage.focus();
  }

  resize() {
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(HIGHEST, this.area.scrollHeight + 2)}px`;
    this.keepDraft();
  }

  readDraft() {
    try {
      return sessionStorage.getItem(DRAFT) ?? "";
    } catch {
      return "";
    }
  }

  keepDraft() {
    try {
      sessionStorage.setItem(DRAFT, this.area.value);
    } catch {
      // a browser that keeps nothing
    }
  }

  /** Show what can be done now. */
  update() {
    const writing = writingReplies().length > 0;
    const model = chosenModel();
    find("#stop").hidden = !writing;
    find("#send").hidden = writing;
    find("#send").disabled = !model || state.loading;
    find("#passage-toggle").hidden = !model?.passage && !(model && !model.open);
    const notes = [];
    const last = shownThread().at(-1);
    if (model?.open && !model.multi_turn && last) {
      notes.push(`The prompt format ${model.format} is for single turns: the model reads only your next message.`);
    }
    if (state.settings.drafts > 1 && shownSampling().do_sample === false) {
      notes.push(
        "The sampling is greedy, so all drafts will be the same. Choose another one, or move the temperature.",
      );
    }
    if (last && openDrafts(last).length && !writing && !state.settings.blind) {
      notes.push("Until you choose one, your next message answers the first reply.");
    }
    const used = last?.message.prompt_tokens + last?.message.tokens;
    if (model?.context && model.multi_turn && used > 0.75 * model.context) {
      notes.push(
        `${used.toLocaleString("en")} of ${model.context.toLocaleString("en")} tokens of the context are used. ` +
          "When it is full, the oldest messages are left out.",
      );
    }
    setChildren(
      find("#composer-notes"),
      notes.map((text) => make("p", { class: "note", text })),
    );
  }
}
