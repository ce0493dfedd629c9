/*
 * What the page knows: models, settings, the conversation that is open, and the messages that were not sent yet.
 */

import { countCharacters } from "./dom.js";

const SETTINGS = "tunesmith.chat";
export const OWN = "model's own";

const DEFAULTS = {
  model: "",
  second: "",
  drafts: 1,
  preset: OWN,
  sampling: {}, // what differs from the preset
  seed: "",
  blind: false,
  theme: "",
};

function readSettings() {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(SETTINGS) ?? "{}") };
  } catch {
    return { ...DEFAULTS };
  }
}

const UNSENT = "tunesmith.chat.unsent";

function readUnsent() {
  try {
    return JSON.parse(sessionStorage.getItem(UNSENT) ?? "[]");
  } catch {
    return [];
  }
}

/** Keep the messages that were not sent, in case the page is loaded again. */
export function keepUnsent() {
  try {
    sessionStorage.setItem(UNSENT, JSON.stringify(state.unsent));
  } catch {
    // a browser that keeps nothing
  }
}

export const state = {
  models: [],
  presets: [],
  settings: readSettings(),
  conversation: null, // without its messages
  loading: false, // whether a conversation was opened whose messages have not arrived yet
  messages: new Map(), // id -> message, in the order of the server
  unsent: readUnsent(), // {conversation, request}: messages that the server does not have yet
  connected: true,
};

export function keepSettings(changes) {
  Object.assign(state.settings, changes);
  try {
    localStorage.setItem(SETTINGS, JSON.stringify(state.settings));
  } catch {
    // a browser that keeps nothing
  }
}

/** The model with a name; null if there is none. */
export function modelOf(name) {
  return state.models.find((model) => model.name === name) ?? null;
}

export function chosenModel() {
  return modelOf(state.settings.model) ?? state.models[0] ?? null;
}

/** What is said about a model that is not there. */
export function missingModel(name) {
  const other = chosenModel();
  const why = "Its run has no export that writes replies, or this server has other models.";
  return `The model ${name} is not there. ${why}${other ? ` ${other.name} is chosen.` : ""}`;
}

/** The sampling settings that a preset has with the chosen model. */
export function presetSampling(name) {
  const own = chosenModel()?.sampling ?? {};
  return state.presets.find((preset) => preset.name === name)?.sampling ?? own;
}

/** All sampling settings, as they are shown. */
export function shownSampling() {
  return { ...presetSampling(state.settings.preset), ...state.settings.sampling };
}

/** The settings that a request names: nothing of what the model itself declares. */
export function requestedSampling() {
  const preset = state.settings.preset === OWN ? {} : presetSampling(state.settings.preset);
  return { ...preset, ...state.settings.sampling };
}

/** Which replies are wanted. alone: one reply of the chosen model, whatever else is set. */
export function wantedAnswers(alone = false) {
  const { settings } = state;
  const first = chosenModel()?.name;
  const compared = !alone && settings.second !== first && modelOf(settings.second);
  const models = compared ? [first, settings.second] : [first];
  const seed = /^\d{1,9}$/.test(settings.seed) ? { seed: Number(settings.seed) } : {};
  return { models, drafts: alone ? 1 : settings.drafts, sampling: requestedSampling(), ...seed };
}

/* The tree of messages */

export function takeConversation(given) {
  const { messages, ...conversation } = given;
  state.conversation = conversation;
  state.messages = new Map(messages.map((message) => [message.id, withCount(message)]));
}

export function takeMessage(message) {
  if (message.shown) {
    for (const sibling of siblingsOf(message)) if (sibling.id !== message.id) sibling.shown = false;
  }
  state.messages.set(message.id, withCount(message));
}

/** Add text to a reply; false if a part before it is missing. */
export function takeText({ id, start, text, tokens, milliseconds, phase }) {
  const message = state.messages.get(id);
  if (!message || message.count !== start) return message === undefined;
  message.text += text;
  message.count += countCharacters(text);
  Object.assign(message, { tokens, milliseconds, phase });
  return true;
}

function withCount(message) {
  return { ...message, count: countCharacters(message.text) };
}

export function siblingsOf(message) {
  return [...state.messages.values()].filter((each) => each.parent === message.parent);
}

/** The messages that are shown: [{message, siblings}]. */
export function shownThread() {
  const children = Map.groupBy ? Map.groupBy(state.messages.values(), (message) => message.parent) : groupByParent();
  const thread = [];
  let parent = null;
  for (;;) {
    const siblings = children.get(parent) ?? [];
    const message = siblings.find((each) => each.shown);
    if (!message) return thread;
    thread.push({ message, siblings, answered: children.has(message.id) });
    parent = message.id;
  }
}

function groupByParent() {
  const found = new Map();
  for (const message of state.messages.values()) {
    if (!found.has(message.parent)) found.set(message.parent, []);
    found.get(message.parent).push(message);
  }
  return found;
}

/** The drafts of which one can be chosen: those of the last shown reply, if nobody has chosen or answered one yet. */
export function openDrafts({ message, siblings }) {
  if (!message.drafts || message.chosen !== null) return [];
  const drafts = siblings.filter((each) => each.drafts === message.drafts);
  const parents = new Set([...state.messages.values()].map((each) => each.parent));
  if (drafts.length < 2 || drafts.some((each) => parents.has(each.id))) return [];
  return state.settings.blind ? drafts.toSorted((a, b) => (a.id < b.id ? -1 : 1)) : drafts;
}

/** The replies of the shown thread that are being written. */
export function writingReplies() {
  return [...state.messages.values()].filter((message) => message.state === "writing");
}
