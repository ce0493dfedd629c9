/*
 * The formats inside of a line: code, formulas (as text), bold, italic, struck out, and links. One pass from left to
 * right; what has no end is text. There are no images and no HTML.
 */

import { make, visible } from "./dom.js";

const SCHEMES = ["http:", "https:", "mailto:"];
const MARKS = [
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "del"],
  ["*", "em"],
  ["_", "em"],
];
const FORMULAS = [
  ["\\(", "\\)"],
  ["\\[", "\\]"],
  ["$$", "$$"],
];
const WORD = /[\p{L}\p{N}]/u;
const ESCAPABLE = /[\\`*_{}[\]()#+\-.!~|<>$]/;
const LONGEST_LINK = 2000;
const DEEPEST = 6;

/** The address as a URL that may be opened; null for another scheme, or what is no address. */
export function safeAddress(text) {
  try {
    const url = new URL(text);
    return SCHEMES.includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

/** A link that says where it leads. */
function makeLink(nodes, url) {
  const link = make("a", { href: url.href, rel: "noopener noreferrer nofollow", target: "_blank" }, ...nodes);
  const place = url.protocol === "mailto:" ? url.pathname : url.host;
  if (!link.textContent.includes(place)) {
    return [link, make("span", { class: "host", text: ` (${visible(place)})` })];
  }
  return [link];
}

/** Where a text occurs at or after a place. The last result is remembered, so that all searches are linear. */
class Finder {
  constructor(text) {
    this.text = text;
    this.known = new Map(); // text -> {from, place}: it does not occur between the two
  }

  find(what, from) {
    const known = this.known.get(what);
    if (known && known.from <= from && (known.place < 0 || from <= known.place)) return known.place;
    const place = this.text.indexOf(what, from);
    this.known.set(what, { from, place });
    return place;
  }
}

/** The nodes of a text with its formats. */
export function formatInline(text, depth = 0) {
  const finder = new Finder(text);
  const nodes = [];
  let plain = "";
  let at = 0;
  const flush = () => {
    if (plain) nodes.push(document.createTextNode(visible(plain)));
    plain = "";
  };
  const add = (made) => {
    flush();
    nodes.push(...made);
  };
  while (at < text.length) {
    const found =
      readEscape(text, at) ??
      readCode(text, at, finder) ??
      readFormula(text, at, finder) ??
      (depth < DEEPEST ? readMark(text, at, finder, depth) : null) ??
      readLink(text, at, finder, depth) ??
      readAddress(text, at);
    if (found === null) {
      plain += text[at];
      at += 1;
      continue;
    }
    if (typeof found.made === "string") plain += found.made;
    else add(found.made);
    at = found.end;
  }
  flush();
  return nodes;
}

function readEscape(text, at) {
  if (text[at] !== "\\" || "([".includes(text[at + 1] ?? "(") || !ESCAPABLE.test(text[at + 1])) return null;
  return { made: text[at + 1], end: at + 2 };
}

function readCode(text, at, finder) {
  if (text[at] !== "`") return null;
  const fence = text.startsWith("``", at) ? "``" : "`";
  const end = finder.find(fence, at + fence.length);
  if (end < 0) return null;
  const content = text.slice(at + fence.length, end);
  const inner = fence === "``" ? content.trim() : content;
  return { made: [make("code", { text: visible(inner) })], end: end + fence.length };
}

function readFormula(text, at, finder) {
  for (const [open, close] of FORMULAS) {
    if (!text.startsWith(open, at)) continue;
    const end = finder.find(close, at + open.length);
    if (end > at + open.length) {
      const source = text.slice(at, end + close.length);
      return { made: [make("code", { class: "formula", text: visible(source) })], end: end + close.length };
    }
  }
  if (text[at] !== "$" || text[at + 1] === undefined || /[\s\d$]/.test(text[at + 1])) return null;
  const end = finder.find("$", at + 1);
  if (end < 0 || /\s/.test(text[end - 1]) || /\d/.test(text[end + 1] ?? "")) return null;
  return { made: [make("code", { class: "formula", text: visible(text.slice(at, end + 1)) })], end: end + 1 };
}

function readMark(text, at, finder, depth) {
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, at)) continue;
    const start = at + mark.length;
    const inWord = mark[0] === "_" && WORD.test(text[at - 1] ?? "");
    if (inWord || /\s/.test(text[start] ?? " ") || text[start] === mark[0]) return null;
    const end = finder.find(mark, start);
    if (end < 0 || /\s/.test(text[end - 1])) return null;
    if (mark[0] === "_" && WORD.test(text[end + mark.length] ?? "")) return null;
    return { made: [make(tag, {}, ...formatInline(text.slice(start, end), depth + 1))], end: end + mark.length };
  }
  return null;
}

/** [text](address); an image is shown as a link to it. */
function readLink(text, at, finder, depth) {
  const start = text.startsWith("![", at) ? at + 2 : text[at] === "[" ? at + 1 : -1;
  if (start < 0 || depth > 0) return null;
  const middle = finder.find("](", start);
  if (middle < 0 || middle - start > LONGEST_LINK) return null;
  const end = finder.find(")", middle);
  if (end < 0 || end - middle > LONGEST_LINK) return null;
  const url = safeAddress(
    text
      .slice(middle + 2, end)
      .trim()
      .split(/\s/, 1)[0],
  );
  if (url === null) return null;
  const name = text.slice(start, middle) || url.host;
  return { made: makeLink(formatInline(name, DEEPEST), url), end: end + 1 };
}

function readAddress(text, at) {
  if (text[at] !== "h" || WORD.test(text[at - 1] ?? "")) return null;
  const found = /^https?:\/\/[^\s<>"'`]{1,2000}/.exec(text.slice(at, at + LONGEST_LINK));
  if (found === null) return null;
  const address = found[0].replace(/[.,;:!?)\]}*_]+$/, "");
  const url = safeAddress(address);
  return url === null ? null : { made: makeLink([visible(address)], url), end: at + address.length };
}
