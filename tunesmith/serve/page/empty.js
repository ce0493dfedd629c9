/*
 * What is shown instead of messages: what to do first.
 */

import { button, find, make, setChildren, visible } from "./dom.js";
import { chosenModel, state } from "./state.js";

const EXAMPLES = [
  "What can you help me with?",
  "Explain photosynthesis to a child.",
  "Write a short poem about the sea.",
  "List three uses of a paper clip.",
];
const NO_MODEL =
  "Name one when the server is started (tunesmith serve runs/NAME), or train one: tunesmith demo trains a small " +
  "assistant in minutes.";
const BEGIN =
  "Write a message below, or begin with one of these. You can stop, edit and retry, compare drafts or two models, " +
  "and look at the prompt that the model reads.";
const PRIVATE =
  "Conversations stay on this computer, in the server's data directory. They are used for training only if you " +
  "switch that on.";

/** Show what to do first, while there is no message. put: writes an example into the form. */
export function showEmpty(put) {
  const empty = find("#empty");
  empty.hidden = state.loading || state.messages.size > 0 || state.unsent.length > 0;
  if (empty.hidden) return;
  const model = chosenModel();
  if (!model) {
    setChildren(empty, [make("h2", { text: "There is no model to talk to" }), make("p", { text: NO_MODEL })]);
    return;
  }
  const ask = (text) => button(text, () => put(text), { class: "example" });
  setChildren(empty, [
    make("h2", { text: `Talk to ${visible(model.name)}` }),
    make("p", { text: BEGIN }),
    make("div", { class: "examples" }, ...EXAMPLES.map(ask)),
    make("p", { class: "note", text: PRIVATE }),
  ]);
}
