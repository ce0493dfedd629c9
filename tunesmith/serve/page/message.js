/*
 * One message of the thread: its text, what is known about it, and what can be done with it.
 */

import { announce, button, copyText, make, setChildren, visible } from "./dom.js";
import { MarkdownView } from "./markdown.js";
import { modelOf, state } from "./state.js";

const PHASES = { loading: "The model is being loaded …", waiting: "Waiting for the model …" };
const ENDS = {
  stopped: "You stopped this reply.",
  interrupted: "The server ended while this reply was written.",
};

/** What a reply is followed by: why it ended, what was left out, and how fast it was written. */
export function describeReply(message) {
  const notes = [];
  if (message.dropped && modelOf(message.model)?.multi_turn !== false) {
    const count = message.dropped === 1 ? "The oldest message" : `The ${message.dropped} oldest messages`;
    notes.push(`${count} did not fit into the context of the model: it did not read them.`);
  }
  if (message.finish === "length" && message.state === "done") {
    notes.push(`It ends at the limit of ${message.sampling.max_new_tokens ?? message.tokens} tokens.`);
  }
  if (message.finish === "context" && message.state === "done") {
    notes.push("It ends because the context of the model is full: begin a new chat, or shorten this one.");
  }
  if (ENDS[message.state]) notes.push(ENDS[message.state]);
  if (message.state === "done" && !message.text) notes.push("The reply is empty.");
  return notes;
}

export function describeSpeed(message) {
  if (!message.tokens) return "";
  const known = message.milliseconds > 0 && message.tokens > 1; // the time begins with the first token
  const speed = known ? `, ${((1000 * (message.tokens - 1)) / message.milliseconds).toFixed(1)}/s` : "";
  return `${message.tokens} tokens${speed}`;
}

export function describeSampling(sampling) {
  const { do_sample: draws, ...rest } = sampling;
  const neutral = { top_k: 0, top_p: 1, typical_p: 1, repetition_penalty: 1, min_new_tokens: 0 };
  const named = Object.entries(rest).filter(([name, value]) => neutral[name] !== value);
  return [draws === false ? "greedy" : "", ...named.map(([name, value]) => `${name}=${value}`)]
    .filter(Boolean)
    .join(" ");
}

/** A message on the page. actions: what its buttons do; see `thread.js`. */
export class MessageView {
  constructor(message, actions) {
    this.id = message.id;
    this.actions = actions;
    this.signature = "";
    this.editing = false;
    this.who = make("h2", { class: "who" });
    this.passage = make("blockquote", { class: "passage" });
    this.body = make("div", { class: "body", dir: "auto" });
    this.notes = make("div", { class: "notes" });
    this.tools = make("div", { class: "tools" });
    this.markdown = new MarkdownView(this.body);
    this.element = make(
      "article",
      { class: `message ${message.role}`, tabindex: "0", "data-id": message.id },
      this.who,
      this.passage,
      this.body,
      this.notes,
      this.tools,
    );
    this.element.addEventListener("keydown", (event) => this.key(event));
  }

  /** Show a message. options: siblings, choosing (one of several open drafts) and number among them. */
  update(message, options) {
    this.message = message;
    this.options = options;
    if (this.editing) return;
    this.updateText();
    const { text: _text, count: _count, tokens: _tokens, milliseconds: _milliseconds, ...rest } = message;
    const ids = options.siblings.map((each) => each.id);
    const signature = JSON.stringify([
      rest,
      ids,
      options.choosing,
      options.number,
      state.settings.blind,
      message.state === "writing" || message.tokens,
    ]);
    if (signature === this.signature) return;
    this.signature = signature;
    const mine = message.role === "user";
    const hidden = options.choosing && state.settings.blind;
    this.who.textContent = mine ? "You" : hidden ? `Reply ${options.number}` : visible(message.model || "Assistant");
    this.element.setAttribute("aria-label", mine ? "Your message" : `Reply of ${this.who.textContent}`);
    this.element.classList.toggle("failed", message.state === "failed");
    this.element.classList.toggle("writing", message.state === "writing");
    this.element.classList.toggle("unsent", Boolean(message.unsent));
    this.passage.hidden = !message.context;
    this.passage.textContent = visible(message.context);
    this.updateNotes();
    setChildren(this.tools, message.unsent ? [] : mine ? this.userTools() : this.replyTools());
  }

  /** Show what was written since the last time. */
  updateText() {
    const { message } = this;
    if (message.role === "user") this.body.textContent = visible(message.text);
    else this.markdown.update(message.text);
    if (this.speed) this.speed.textContent = describeSpeed(message);
    if (this.phase) this.phase.textContent = message.text ? "" : (PHASES[message.phase] ?? "");
  }

  updateNotes() {
    const { message } = this;
    const notes = describeReply(message).map((text) => make("p", { class: "note", text }));
    this.phase = null;
    if (message.unsent)
      notes.push(make("p", { class: "note", text: "Not sent yet. It is sent when the server answers." }));
    if (message.state === "writing") {
      this.phase = make("p", { class: "note", text: message.text ? "" : (PHASES[message.phase] ?? "") });
      notes.push(this.phase);
    }
    if (message.error) notes.push(make("p", { class: "problem", text: visible(message.error) }));
    if (message.edit_of) notes.push(make("p", { class: "note", text: "Edited by you." }));
    if (message.comment) notes.push(make("p", { class: "note", text: `Your comment: ${visible(message.comment)}` }));
    setChildren(this.notes, notes);
  }

  branches() {
    const { siblings } = this.options;
    if (siblings.length < 2 || this.options.choosing) return [];
    const at = siblings.findIndex((each) => each.id === this.id);
    const arrow = (text, name, to) =>
      button(text, () => this.actions.show(siblings[to].id), {
        class: "quiet",
        "aria-label": name,
        disabled: !siblings[to],
      });
    return [
      make(
        "span",
        { class: "branches", role: "group", "aria-label": "Versions" },
        arrow("‹", "Previous version", at - 1),
        make("span", { text: `${at + 1}/${siblings.length}` }),
        arrow("›", "Next version", at + 1),
      ),
    ];
  }

  userTools() {
    return [
      ...this.branches(),
      this.tool("Edit", () => this.edit()),
      this.tool("Copy", () => this.copy()),
      this.tool("Delete", () => this.actions.remove(this.message)),
    ];
  }

  replyTools() {
    const { message, options } = this;
    const writing = message.state === "writing";
    const can = modelOf(message.model)?.continues !== false && message.text;
    const vote = (value, text, name) =>
      button(text, () => this.vote(value), {
        class: "quiet",
        "aria-label": name,
        title: name,
        "aria-pressed": String(message.vote === value),
      });
    this.speed = make("span", {
      class: "note speed",
      text: describeSpeed(message),
      title: describeSampling(message.sampling),
    });
    const choose =
      options.choosing && !writing
        ? [button(`Choose reply ${options.number}`, () => this.actions.choose(message.id), { class: "main choose" })]
        : [];
    if (writing) return [...choose, this.tool("Stop", () => this.actions.stop(message.id)), this.speed];
    return [
      ...choose,
      ...this.branches(),
      this.tool("Copy", () => this.copy()),
      ...(options.choosing ? [] : [this.tool("Retry", () => this.actions.retry(message))]),
      this.tool("Edit", () => this.edit()),
      ...(can && !options.choosing ? [this.tool("Continue", () => this.actions.continue(message.id))] : []),
      vote(1, "Good", "Good reply"),
      vote(-1, "Bad", "Bad reply"),
      ...(options.choosing ? [] : [this.tool("Comment", () => this.actions.comment(message))]),
      ...(message.error ? [] : [this.tool("Prompt", () => this.actions.prompt(message), "What the model read")]),
      ...(options.choosing ? [] : [this.tool("Delete", () => this.actions.remove(message))]),
      this.speed,
    ];
  }

  tool(text, listener, title = null) {
    return button(text, listener, { class: "quiet", title, "aria-label": title ? `${text}: ${title}` : null });
  }

  vote(value) {
    this.actions.vote(this.id, this.message.vote === value ? 0 : value);
  }

  async copy() {
    await copyText(this.message.text);
    announce("Copied");
  }

  /** Let the text be edited in its place. */
  edit() {
    if (this.editing || this.message.state === "writing") return;
    this.editing = true;
    const mine = this.message.role === "user";
    const area = make("textarea", {
      class: "edit",
      "aria-label": mine ? "Edit your message" : "Edit the reply",
      dir: "auto",
    });
    area.value = this.message.text;
    area.rows = Math.min(20, Math.max(3, this.message.text.split("\n").length + 1));
    const end = (done) => {
      this.editing = false;
      this.signature = "";
      this.markdown = new MarkdownView(this.body);
      this.body.textContent = "";
      this.update(this.message, this.options);
      if (done && area.value.trim() && area.value !== this.message.text) done(this.message, area.value);
      else this.element.focus();
    };
    const save = mine ? this.actions.editMessage : this.actions.editReply;
    area.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") end(null);
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey || (mine && !event.shiftKey))) {
        event.preventDefault();
        end(save);
      }
    });
    setChildren(this.body, [area]);
    setChildren(this.tools, [
      button(mine ? "Send" : "Save as a better reply", () => end(save), { class: "main" }),
      button("Cancel", () => end(null)),
      make("span", {
        class: "note",
        text: mine ? "The old message stays as another version." : "The old reply stays as another version.",
      }),
    ]);
    area.focus();
  }

  /** Keys while the message has the focus. */
  key(event) {
    if (event.target !== this.element || event.ctrlKey || event.metaKey || event.altKey) return;
    const { message, options } = this;
    const at = options.siblings.findIndex((each) => each.id === this.id);
    const reply = message.role === "assistant" && message.state !== "writing";
    const keys = {
      ArrowLeft: () => options.siblings[at - 1] && this.actions.show(options.siblings[at - 1].id),
      ArrowRight: () => options.siblings[at + 1] && this.actions.show(options.siblings[at + 1].id),
      e: () => this.edit(),
      c: () => this.copy(),
      r: () => reply && this.actions.retry(message),
      g: () => reply && this.vote(1),
      b: () => reply && this.vote(-1),
      p: () => reply && this.actions.prompt(message),
      Enter: () => options.choosing && reply && this.actions.choose(message.id),
      Delete: () => this.actions.remove(message),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }
}
