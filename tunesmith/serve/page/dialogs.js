/*
 * The dialog of the page: questions, the tokens of a prompt, and the list of keys.
 */

import { button, find, make, setChildren, visible } from "./dom.js";

const dialog = find("#dialog");

/** Open the dialog with a title and content; resolves when it is closed, with the value that closed it. */
export function openDialog(title, content, buttons = []) {
  const close = (value) => dialog.close(value);
  const head = make(
    "div",
    { class: "row" },
    make("h2", { id: "dialog-title", text: title }),
    button("Close", () => close(""), { class: "quiet" }),
  );
  const foot = buttons.map(([text, value, kind]) => button(text, () => close(value), { class: kind ?? "" }));
  setChildren(dialog, [head, ...content, ...(foot.length ? [make("div", { class: "row foot" }, ...foot)] : [])]);
  dialog.returnValue = "";
  const before = document.activeElement;
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        if (before?.isConnected) before.focus();
        resolve(dialog.returnValue);
      },
      { once: true },
    );
    dialog.showModal();
  });
}

export async function confirmDialog(title, text, action) {
  const answer = await openDialog(
    title,
    [make("p", { text })],
    [
      [action, "yes", "danger"],
      ["Cancel", ""],
    ],
  );
  return answer === "yes";
}

/** Ask for a text; null if nothing was entered. */
export async function askText(title, text, settings = {}) {
  const area = make(settings.long ? "textarea" : "input", {
    rows: "5",
    "aria-label": title,
    maxlength: settings.limit ?? 200,
    dir: "auto",
  });
  area.value = text;
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (!settings.long || event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      dialog.close("yes");
    }
  });
  const opened = openDialog(
    title,
    [area],
    [
      ["Save", "yes", "main"],
      ["Cancel", ""],
    ],
  );
  area.focus();
  area.select();
  return (await opened) === "yes" ? area.value : null;
}

const SPACES = [
  ["\n", "line"],
  ["\t", "tab"],
  [" ", "space"],
];

/** The text of a token with its white space made visible. */
function tokenNodes(text) {
  const nodes = [];
  let plain = "";
  for (const mark of text) {
    const kind = SPACES.find(([space]) => space === mark)?.[1];
    if (!kind) {
      plain += mark;
      continue;
    }
    if (plain) nodes.push(visible(plain));
    plain = "";
    nodes.push(make("i", { class: kind, text: kind === "line" ? "" : mark }));
    if (kind === "line") nodes.push("\n");
  }
  if (plain) nodes.push(visible(plain));
  return nodes;
}

/** What the model read before a reply, token by token. */
export function showPrompt(view) {
  const turns = [];
  for (const token of view.tokens) {
    if (turns.at(-1)?.role !== token.role) turns.push({ role: token.role, tokens: [] });
    turns.at(-1).tokens.push(token);
  }
  const nodes = turns.map(({ role, tokens }) =>
    make(
      "div",
      { class: `turn ${role}` },
      make("span", {
        class: "role",
        text: role,
      }),
      make(
        "div",
        { class: "tokens" },
        ...tokens.map((token) =>
          make(
            "span",
            { class: token.control ? "token control" : "token", title: `token ${token.ids.join(" ")}` },
            ...tokenNodes(token.text),
          ),
        ),
      ),
    ),
  );
  const why = view.multi_turn ? "did not fit and are missing" : "are missing, because the format is for single turns";
  const dropped = view.dropped ? ` The ${view.dropped} oldest messages ${why}.` : "";
  const cut = view.shown < view.count ? ` The first ${view.shown.toLocaleString("en")} are shown.` : "";
  const facts =
    `${view.count.toLocaleString("en")} tokens in the prompt format ${visible(view.format)}. Each box is one token; ` +
    `the pointer shows its number. Dashed boxes are control tokens.${dropped}${cut}`;
  return openDialog("What the model read", [
    make("p", { class: "note", text: facts }),
    make("div", { class: "thread prompt-tokens", tabindex: "0", role: "group", "aria-label": "Tokens" }, ...nodes),
  ]);
}

const KEYS = [
  ["Enter", "send the message"],
  ["Shift+Enter", "begin a new line"],
  ["Esc", "stop the reply"],
  ["Alt+N", "new chat"],
  ["Alt+K", "search the conversations"],
  ["Alt+S", "settings"],
  ["Alt+↑ ↓", "go to the messages, and from one to the next"],
  ["← →", "on a message: the version before or after"],
  ["e, c, Delete", "on a message: edit, copy, delete"],
  ["r, g, b, p", "on a reply: retry, good, bad, prompt"],
  ["Enter", "on a draft: choose it"],
  ["Alt+M", "back to your message"],
];

export function showKeys() {
  const rows = KEYS.flatMap(([key, what]) => [make("dt", {}, make("kbd", { text: key })), make("dd", { text: what })]);
  return openDialog("Keys", [make("dl", { class: "keys" }, ...rows)]);
}
