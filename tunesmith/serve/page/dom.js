/*
 * DOM nodes. Text enters the page only through textContent, so nothing that a person or a model wrote is ever HTML.
 */

/** An element. settings: text, class, on (listeners), and attributes; false and null leave an attribute out. */
export function make(tag, settings = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(settings)) {
    if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else if (name === "on")
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A button with a visible name. */
export function button(text, listener, settings = {}) {
  return make("button", { type: "button", text, on: { click: listener }, ...settings });
}

export const find = (selector, root = document) => root.querySelector(selector);

/** Replace the children of a node by others, without touching those that stay in their place. */
export function setChildren(parent, children) {
  children.forEach((child, index) => {
    if (parent.childNodes[index] !== child) parent.insertBefore(child, parent.childNodes[index] ?? null);
  });
  while (parent.childNodes.length > children.length) parent.lastChild.remove();
}

const HIDDEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f\\u2028-\\u202e" +
    "\\u2060-\\u206f\\ufeff\\ufff0-\\ufffb\\u{e0000}-\\u{e0fff}]",
  "gu",
);

/** The text with characters that are invisible, or change the direction of others, written out as codes. */
export function visible(text) {
  return text.replace(HIDDEN, (mark) => {
    const code = mark.codePointAt(0).toString(16);
    return code.length <= 2
      ? `\\x${code.padStart(2, "0")}`
      : code.length <= 4
        ? `\\u${code.padStart(4, "0")}`
        : `\\U${code.padStart(8, "0")}`;
  });
}

/** Put a text on the clipboard; pages that are not loaded over https have only the older way. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make("textarea", { class: "outside", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/** Offer a text as a file. */
export function saveFile(name, type, text) {
  const link = make("a", { download: name });
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

let announced = 0;

/** Say something to people who use a screen reader; the text is not shown. */
export function announce(text) {
  const place = find("#announcements");
  place.textContent = "";
  clearTimeout(announced);
  announced = setTimeout(() => (place.textContent = text), 50);
}

/** The number of characters as the server counts them. */
export function countCharacters(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

/** A new id: 20 letters and digits. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(10));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** How long ago, or the day. moment: milliseconds since 1970. */
export function sayWhen(moment) {
  const seconds = Math.max(0, (Date.now() - moment) / 1000);
  if (seconds < 60) return "now";
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return new Date(moment).toLocaleDateString(undefined, { day: "numeric", month: "short" });
}
