/*
 * Whether the server answers, and the line at the top that says what is wrong.
 */

import { server } from "./api.js";
import { announce, button, find, make, setChildren, visible } from "./dom.js";
import { state } from "./state.js";

const PAUSE = 3000; // ms between two tries
const SOON = 1000; // ms; what takes longer is mentioned
const GONE = "The server does not answer. What you have sent is safe; this page tries again by itself.";
const CUT = "The connection to this conversation is lost. Nothing is missing once it is back; this page tries again.";

export class Connection {
  /** actions: regained() after the server answers again, retry() at every try. */
  constructor(actions) {
    this.actions = actions;
    this.timer = 0;
    this.events = true;
  }

  /** Show an error. */
  report(error) {
    if (error.status === 0) this.set(false);
    else if (error.status === undefined) throw error;
    else this.show(error.message);
  }

  /** Show a line that can be closed. */
  show(text) {
    this.line(
      text,
      button("Close", () => this.line(""), { class: "quiet" }),
    );
  }

  /** Say what takes long, until a promise has its result. */
  async during(text, work) {
    let said = false;
    const timer = setTimeout(() => {
      said = state.connected && find("#banner").hidden;
      if (said) this.line(text);
    }, SOON);
    try {
      return await work;
    } finally {
      clearTimeout(timer);
      if (said && state.connected && find("#banner").textContent === visible(text)) this.line("");
    }
  }

  line(text, ...buttons) {
    const banner = find("#banner");
    banner.hidden = !text;
    setChildren(banner, text ? [make("span", { text: visible(text) }), ...buttons] : []);
  }

  /** Note whether the server answers. */
  set(connected) {
    if (connected === state.connected) return;
    state.connected = connected;
    document.body.classList.toggle("offline", !connected);
    if (connected) {
      this.line("");
      announce("The server answers again");
      this.actions.regained();
    } else {
      this.line(
        GONE,
        button("Try now", () => this.retry()),
      );
      this.schedule();
    }
  }

  /** Note whether the events of the open conversation arrive, although the server answers. */
  setEvents(arrive) {
    if (arrive === this.events) return;
    this.events = arrive;
    if (arrive) this.line("");
    else
      this.line(
        CUT,
        button("Try now", () => this.actions.retry()),
      );
  }

  schedule() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.retry(), PAUSE);
  }

  /** Ask the server whether it answers. */
  async retry() {
    clearTimeout(this.timer);
    if (state.connected) return;
    try {
      await server.state();
      this.set(true);
      this.actions.retry();
    } catch {
      this.schedule();
    }
  }
}
