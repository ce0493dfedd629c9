/*
 * A text with Markdown as DOM nodes, block by block. While a reply is written, only the blocks that have changed are
 * made again: usually the last one.
 */

import { button, copyText, make, visible } from "./dom.js";
import { formatInline } from "./inline.js";

const FENCE = /^ {0,3}(```+|~~~+)\s*([^\s`]*)/;
const ITEM = /^(\s*)([-*+\u2022]|\d{1,9}[.)])\s+(.*)$/s;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/s;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const TABLE_MARK = /^:?-+:?$/;
const FORMULA_BEGIN = new Map([
  ["$$", "$$"],
  ["\\[", "\\]"],
]);
const DEEPEST_ITEM = 4;
const DEEPEST_QUOTE = 4;

/** The blocks of a text: {kind, lines, ...}. */
export function findBlocks(text) {
  const lines = text.split("\n");
  const open = new Set(); // ends of formulas that occur no more: so every line is searched once
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    const block =
      readFence(lines, at) ?? readFormulaBlock(lines, at, open) ?? readTable(lines, at) ?? readQuote(lines, at) ?? null;
    if (block) {
      blocks.push(block);
      at = block.end;
      continue;
    }
    const heading = HEADING.exec(line);
    const item = ITEM.exec(line);
    const last = blocks.at(-1);
    if (!line.trim()) blocks.push({ kind: "gap", lines: [] });
    else if (heading) blocks.push({ kind: "heading", level: heading[1].length, lines: [heading[2]] });
    else if (RULE.test(line)) blocks.push({ kind: "rule", lines: [] });
    else if (item) {
      const depth = Math.min(DEEPEST_ITEM, Math.floor(item[1].replace(/\t/g, "    ").length / 2));
      const number = /\d/.test(item[2]) ? parseInt(item[2], 10) : null;
      blocks.push({ kind: "item", depth, number, lines: [item[3]] });
    } else if (last?.kind === "paragraph") last.lines.push(line);
    else if (last?.kind === "item" && /^\s/.test(line)) last.lines.push(line.trim());
    else blocks.push({ kind: "paragraph", lines: [line] });
    at += 1;
  }
  return joinItems(blocks.filter((block, index) => block.kind !== "gap" || isBetweenItems(blocks, index)));
}

/** An empty line between two items does not end their list. */
function isBetweenItems(blocks, index) {
  return blocks[index - 1]?.kind === "item" && blocks[index + 1]?.kind === "item";
}

/** Items that follow each other become one list. */
function joinItems(blocks) {
  const found = [];
  for (const block of blocks) {
    if (block.kind === "gap") continue;
    const last = found.at(-1);
    if (block.kind !== "item") found.push(block);
    else if (last?.kind === "list") last.items.push(block);
    else found.push({ kind: "list", items: [block] });
  }
  return found;
}

function readFence(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  let end = at + 1;
  const closes = (line) => line.trim().startsWith(open[1]) && !line.trim().slice(open[1].length).trim();
  while (end < lines.length && !closes(lines[end])) end += 1;
  return { kind: "code", language: open[2], lines: lines.slice(at + 1, end), closed: end < lines.length, end: end + 1 };
}

function readFormulaBlock(lines, at, open) {
  const close = FORMULA_BEGIN.get(lines[at].trim());
  if (!close || open.has(close)) return null;
  let end = at + 1;
  while (end < lines.length && lines[end].trim() !== close) end += 1;
  if (end === lines.length) {
    open.add(close);
    return null;
  }
  return { kind: "formula", lines: lines.slice(at, end + 1), end: end + 1 };
}

function readTable(lines, at) {
  if (!lines[at].includes("|") || !lines[at + 1]?.includes("-")) return null;
  const head = cellsOf(lines[at]);
  const marks = cellsOf(lines[at + 1]);
  if (marks.length !== head.length || !marks.every((mark) => TABLE_MARK.test(mark))) return null;
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && lines[end].trim()) end += 1;
  const sides = marks.map((mark) => (mark.endsWith(":") ? (mark.startsWith(":") ? "center" : "right") : "left"));
  return { kind: "table", head, sides, rows: lines.slice(at + 2, end).map(cellsOf), lines: [], end };
}

function cellsOf(line) {
  const cells = line
    .trim()
    .replace(/^\|/, "")
    .replace(/\|$/, "")
    .split(/(?<!\\)\|/);
  return cells.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function readQuote(lines, at) {
  if (!QUOTE.test(lines[at])) return null;
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  return { kind: "quote", lines: lines.slice(at, end).map((line) => line.replace(QUOTE, "")), end };
}

/** The node of one block. */
function makeBlock(block, depth) {
  const text = block.lines?.join("\n") ?? "";
  switch (block.kind) {
    case "code":
      return makeCode(block.language, text);
    case "formula":
      return make("pre", { class: "formula", text: visible(text), tabindex: "0" });
    case "heading":
      return make(
        "p",
        { class: `heading level-${block.level}`, role: "heading", "aria-level": String(Math.min(6, block.level + 2)) },
        ...formatInline(text),
      );
    case "rule":
      return make("hr");
    case "quote":
      return make("blockquote", {}, ...(depth < DEEPEST_QUOTE ? formatBlocks(text, depth + 1) : [visible(text)]));
    case "table":
      return makeTable(block);
    case "list":
      return makeList(block.items);
    default:
      return make("p", {}, ...formatInline(text));
  }
}

function makeCode(language, text) {
  const copy = button(
    "Copy",
    async () => {
      await copyText(text);
      copy.textContent = "Copied";
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    },
    { class: "quiet", "aria-label": "Copy the code" },
  );
  const head = make("div", { class: "code-head" }, make("span", { text: visible(language) || "text" }), copy);
  return make(
    "div",
    { class: "code-block" },
    head,
    make("pre", { tabindex: "0" }, make("code", { text: visible(text) })),
  );
}

function makeTable(block) {
  const cell = (tag, text, index) =>
    make(tag, { class: `side-${block.sides[index]}`, scope: tag === "th" ? "col" : null }, ...formatInline(text));
  const head = make("tr", {}, ...block.head.map((text, index) => cell("th", text, index)));
  const rows = block.rows.map((row) =>
    make("tr", {}, ...block.head.map((_, index) => cell("td", row[index] ?? "", index))),
  );
  const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Table" }, table);
}

/** Nested lists from items with depths. */
function makeList(items) {
  const root = make("div", { class: "list" });
  const open = []; // {depth, list}
  for (const item of items) {
    while (open.length && open.at(-1).depth > item.depth) open.pop();
    const tag = item.number === null ? "UL" : "OL";
    if (open.length && open.at(-1).depth === item.depth && open.at(-1).list.tagName !== tag) open.pop();
    if (!open.length || open.at(-1).depth < item.depth) {
      const list = make(tag.toLowerCase(), { start: item.number !== null && item.number !== 1 ? item.number : null });
      (open.at(-1)?.list.lastElementChild ?? root).append(list);
      open.push({ depth: item.depth, list });
    }
    open.at(-1).list.append(make("li", {}, ...formatInline(item.lines.join("\n"))));
  }
  return root.childElementCount === 1 ? root.firstElementChild : root;
}

function formatBlocks(text, depth) {
  return findBlocks(text).map((block) => makeBlock(block, depth));
}

/** Shows a text in an element, and longer versions of it without making all of its nodes again. */
export class MarkdownView {
  constructor(element) {
    this.element = element;
    this.shown = []; // the source of every block
    this.text = null;
  }

  update(text) {
    if (text === this.text) return;
    this.text = text;
    const blocks = findBlocks(text);
    const sources = blocks.map((block) => JSON.stringify(block));
    let same = 0;
    while (same < sources.length && sources[same] === this.shown[same]) same += 1;
    while (this.element.childNodes.length > same) this.element.lastChild.remove();
    this.element.append(...blocks.slice(same).map((block) => makeBlock(block, 0)));
    this.shown = sources;
  }
}
