/*
 * The chat page: what people do becomes a request, and the events of the server become what is shown.
 */

import { Watch, server } from "./api.js";
import { announce, find, newId, visible } from "./dom.js";
import { askText, confirmDialog, showKeys, showPrompt } from "./dialogs.js";
import { Connection } from "./connection.js";
import { showEmpty } from "./empty.js";
import { Composer } from "./composer.js";
import { Settings, fillChoices } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import {
  chosenModel,
  keepSettings,
  keepUnsent,
  missingModel,
  modelOf,
  requestedSampling,
  shownThread,
  state,
  takeConversation,
  takeMessage,
  takeText,
  wantedAnswers,
  writingReplies,
} from "./state.js";
import { Thread } from "./thread.js";

const THEMES = { "": "dark", dark: "light", light: "" };
let watch = null;
let listTimer = 0;

/* Errors and the connection */

const connection = new Connection({
  regained: () => {
    loadState().then(sendWaiting);
    sidebar.load();
  },
  retry: () => watch?.retry(),
});
const report = (error) => connection.report(error);

/** Do something on the server; errors are shown. */
async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    report(error);
    return null;
  }
}

/* Conversations */

function openConversation(id) {
  sidebar.toggle(false);
  location.hash = `#c/${id}`;
}

function fresh() {
  sidebar.toggle(false);
  if (location.hash) location.hash = "";
  else closeConversation();
  find("#text").focus();
}

function closeConversation() {
  watch?.close();
  watch = null;
  connection.setEvents(true);
  state.conversation = null;
  state.loading = false;
  state.messages = new Map();
  thread.clear();
  settings.system = "";
  changed();
}

function followHash() {
  const model = /^#m\/(.+)$/.exec(location.hash)?.[1];
  if (model) {
    history.replaceState(null, "", location.pathname);
    chooseModel(readName(model));
  }
  const id = /^#c\/([\w-]{1,64})$/.exec(location.hash)?.[1];
  if (!id) return closeConversation();
  if (id === state.conversation?.id) return;
  closeConversation();
  state.loading = true;
  watchConversation(id);
  changed();
}

/** Choose the model that a link names; one that the page does not know yet may have come since it was loaded. */
async function chooseModel(name) {
  if (!modelOf(name) && !(await loadState())) return; // the server is gone, which is shown
  if (!modelOf(name)) return connection.show(missingModel(name));
  keepSettings({ model: name });
  fillChoices(changed);
  changed();
}

function readName(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // not written by the list of runs
  }
}

/** Say it, once, if the model of an earlier visit is not served here, since another one replies instead. */
function checkModel() {
  const { model } = state.settings;
  if (!model || !state.models.length || modelOf(model)) return;
  connection.show(missingModel(model));
  keepSettings({ model: chosenModel().name });
}

function watchConversation(id) {
  watch?.close();
  watch = new Watch(id, {
    conversation: (given) => {
      state.loading = false;
      takeConversation(given);
      changed();
    },
    message: (message) => {
      const before = state.messages.get(message.id);
      takeMessage(message);
      if (before?.state === "writing" && message.state !== "writing") ended(message);
      changed();
    },
    text: (part) => {
      if (!takeText(part)) watchConversation(id);
      thread.draw();
    },
    gone: () => {
      announce("This conversation was deleted");
      fresh();
    },
    connected: () => {
      connection.set(true);
      connection.setEvents(true);
    },
    lost: (losses) => checkConnection(id, losses),
  });
}

/** After a lost connection: is it the server, or does the conversation not exist? losses: in a row. */
async function checkConnection(id, losses) {
  try {
    await server.conversation(id);
    connection.set(true);
    if (losses > 1 && watch?.id === id) connection.setEvents(false);
  } catch (error) {
    if (error.status !== 404) return report(error);
    connection.set(true);
    if (watch?.id !== id || state.unsent.some((each) => each.conversation === id)) return;
    watch.close();
    fresh();
    connection.show("This conversation does not exist. It may have been deleted.");
  }
}

function ended(message) {
  const how =
    message.state === "done"
      ? "The reply is complete."
      : message.state === "failed"
        ? message.error
        : "The reply has stopped.";
  announce(how);
  if (!chosenModel()?.open) loadState();
}

/* Sending: a message keeps its id until the server has it, so it is sent again without harm */

async function send(text, context) {
  const id = state.conversation?.id ?? newId();
  const last = shownThread().at(-1)?.message;
  const waiting = state.unsent.filter((each) => each.conversation === id).at(-1);
  const request = {
    id: newId(),
    parent: waiting?.request.id ?? last?.id ?? null,
    text,
    answers: wantedAnswers(),
    ...(context ? { context } : {}),
  };
  state.unsent.push({ conversation: id, request, system: state.conversation ? null : (settings.system ?? "") });
  if (!state.conversation) {
    state.conversation = { id, title: "", system: settings.system ?? "", feedback: false };
    history.replaceState(null, "", `#c/${id}`);
  }
  keepUnsent();
  thread.following = true;
  changed();
  await sendWaiting();
}

let sending = false;

async function sendWaiting() {
  if (sending) return;
  sending = true;
  try {
    while (state.unsent.length) {
      const { conversation, request, system } = state.unsent[0];
      try {
        if (system !== null) await server.create(conversation, system);
        await server.send(conversation, request);
      } catch (error) {
        if (error.status !== 0) {
          state.unsent.shift();
          keepUnsent();
          composer.giveBack(request.text);
        }
        report(error);
        break;
      }
      state.unsent.shift();
      keepUnsent();
      if (conversation === state.conversation?.id && !watch) watchConversation(conversation);
      sidebar.load();
    }
  } finally {
    sending = false;
    changed();
  }
}

async function sendEdited(message, text) {
  const request = { id: newId(), parent: message.parent, text, context: message.context, answers: wantedAnswers() };
  await attempt(() => server.send(state.conversation.id, request));
}

async function removeMessage(message) {
  const text =
    message.role === "user"
      ? "The message and all replies to it are removed for good."
      : "The reply and all that follows it are removed for good.";
  if (await confirmDialog("Delete this message?", text, "Delete")) {
    await attempt(() => server.removeMessage(message.id));
    composer.focus();
  }
}

async function commentOn(message) {
  const text = await askText("Comment on this reply", message.comment, { long: true, limit: 10000 });
  if (text !== null) await attempt(() => server.comment(message.id, text.trim()));
}

const thread = new Thread({
  show: (id) => attempt(() => server.show(id)),
  choose: async (id) => {
    if ((await attempt(() => server.choose(id))) !== null) announce("Chosen");
    composer.focus();
  },
  stop: (id) => attempt(() => server.stop(id)),
  retry: (message) => attempt(() => server.retry(message.id, wantedAnswers())),
  continue: (id) => attempt(() => server.continue(id, requestedSampling())),
  vote: (id, value) => attempt(() => server.vote(id, value)),
  comment: commentOn,
  prompt: async (message) => {
    const text = modelOf(message.model)?.open ? "The prompt is being made …" : "The model is being loaded …";
    const view = await attempt(() => connection.during(text, server.prompt(message.id)));
    if (view) await showPrompt(view);
  },
  remove: removeMessage,
  editMessage: sendEdited,
  editReply: (message, text) => attempt(() => server.edit(message.id, newId(), text)),
});

const sidebar = new Sidebar({
  open: openConversation,
  fresh,
  report,
  changed: () => changed(),
  during: (text, work) => connection.during(text, work),
});
const settings = new Settings({
  system: (system) => state.conversation && attempt(() => server.change(state.conversation.id, { system })),
  changed: () => changed(),
});
const composer = new Composer({
  send,
  stop: () => Promise.all(writingReplies().map((each) => attempt(() => server.stop(each.id)))),
});

/* What is shown */

function changed() {
  const { conversation } = state;
  const title = visible(conversation?.title ?? "") || "New chat";
  find("#rename").textContent = title;
  find("#rename").disabled = !conversation;
  document.body.toggleAttribute("data-loading", state.loading);
  document.title = conversation?.title ? `${title} · Chat` : "Chat";
  find("#feedback-label").hidden = !conversation;
  find("#feedback").checked = Boolean(conversation?.feedback);
  showEmpty((text) => composer.put(text));
  thread.draw();
  composer.update();
  settings.render();
  clearTimeout(listTimer);
  listTimer = setTimeout(() => state.connected && sidebar.load(), 400);
}

/** Ask for models and presets; whether the server has answered. */
async function loadState() {
  const found = await attempt(() => server.state());
  if (!found) return false;
  Object.assign(state, { models: found.models, presets: found.presets });
  fillChoices(changed);
  changed();
  return true;
}

/* The page itself */

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  keepSettings({ theme });
}

const KEYS = {
  KeyN: fresh,
  KeyK: () => (sidebar.toggle(true), find("#search").focus()),
  KeyS: () => settings.toggle(),
  KeyM: () => composer.focus(),
  ArrowUp: () => thread.move(-1),
  ArrowDown: () => thread.move(1),
};

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !find("#dialog").open && !event.defaultPrevented) composer.stop();
  if (!event.altKey || event.ctrlKey || event.metaKey || !KEYS[event.code]) return;
  event.preventDefault();
  KEYS[event.code]();
});
find("#rename").addEventListener("click", () => sidebar.rename());
find("#help").addEventListener("click", () => showKeys());
find("#theme").addEventListener("click", () => setTheme(THEMES[state.settings.theme] ?? "dark"));
find("#feedback").addEventListener("change", async (event) => {
  const feedback = event.target.checked;
  await attempt(() => server.change(state.conversation.id, { feedback }));
  announce(
    feedback
      ? "Votes, choices and edits of this conversation may be used for training"
      : "This conversation is not used for training",
  );
});
window.addEventListener("hashchange", followHash);
window.addEventListener("online", () => connection.retry());
setTheme(state.settings.theme);
await loadState();
if (!location.hash.startsWith("#m/")) checkModel();
followHash();
sidebar.load();
sendWaiting();
if (!matchMedia("(max-width: 50rem)").matches) composer.focus();
document.body.dataset.ready = "yes";
