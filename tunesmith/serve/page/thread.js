/*
 * The thread: the messages that are shown, with drafts side by side while one can be chosen, and where it is scrolled.
 */

import { find, make, setChildren } from "./dom.js";
import { MessageView } from "./message.js";
import { openDrafts, shownThread, state } from "./state.js";

const NEAR = 80; // pixels from the end within which new text is followed

export class Thread {
  /** actions: show, choose, stop, retry, continue, vote, comment, prompt, remove, editMessage, editReply. */
  constructor(actions) {
    this.actions = actions;
    this.element = find("#thread");
    this.scroller = find("#scroll");
    this.views = new Map();
    this.groups = new Map(); // name of a set of drafts -> its element
    this.following = true;
    this.waiting = false;
    this.scroller.addEventListener("scroll", () => (this.following = this.distance() < NEAR), { passive: true });
  }

  distance() {
    return this.scroller.scrollHeight - this.scroller.scrollTop - this.scroller.clientHeight;
  }

  /** Draw again before the next picture, however often this is called. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.render();
    });
  }

  render() {
    const used = new Set();
    const elements = [];
    for (const turn of shownThread()) {
      const drafts = openDrafts(turn);
      if (drafts.length) elements.push(this.renderDrafts(drafts, turn, used));
      else
        elements.push(this.renderMessage(turn.message, { siblings: turn.siblings, choosing: false, number: 0 }, used));
    }
    for (const { request, conversation } of state.unsent) {
      if (conversation !== state.conversation?.id || state.messages.has(request.id)) continue;
      const message = {
        ...request,
        role: "user",
        state: "done",
        unsent: true,
        context: request.context ?? "",
        sampling: {},
      };
      elements.push(this.renderMessage(message, { siblings: [], choosing: false, number: 0 }, used));
    }
    setChildren(this.element, elements);
    for (const id of this.views.keys()) if (!used.has(id)) this.views.delete(id);
    if (this.following) this.toEnd();
  }

  renderMessage(message, options, used) {
    used.add(message.id);
    if (!this.views.has(message.id)) this.views.set(message.id, new MessageView(message, this.actions));
    const view = this.views.get(message.id);
    view.update(message, options);
    return view.element;
  }

  renderDrafts(drafts, turn, used) {
    const name = turn.message.drafts;
    const made = () =>
      make(
        "section",
        { class: "drafts", "aria-label": "Drafts: choose one" },
        make("p", {
          class: "note",
          text: "Which reply is better? Your choice is kept. Your next message answers the chosen one.",
        }),
        make("div", { class: "columns" }),
      );
    if (!this.groups.has(name)) this.groups.set(name, made());
    const group = this.groups.get(name);
    const columns = drafts.map((draft, index) =>
      this.renderMessage(draft, { siblings: turn.siblings, choosing: true, number: index + 1 }, used),
    );
    setChildren(group.lastChild, columns);
    return group;
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.following = true;
  }

  /** Put the focus on the last message, or on the one before or after that which has it. */
  move(step) {
    const all = [...this.element.querySelectorAll(".message")];
    const at = all.indexOf(document.activeElement?.closest?.(".message"));
    const next = at < 0 ? all.at(-1) : all[Math.max(0, Math.min(all.length - 1, at + step))];
    next?.focus();
  }

  clear() {
    this.views.clear();
    this.groups.clear();
    setChildren(this.element, []);
    this.following = true;
  }
}
