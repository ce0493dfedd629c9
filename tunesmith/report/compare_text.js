"use strict";

/*
 * Replies as DOM nodes. Text enters the page only through textContent, so nothing that a model wrote is ever HTML.
 */

function makeNode(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const FENCE = /^\s*(```|~~~)/;
const ITEM = /^(\s*)(?:[-*+\u2022]|(\d{1,9})[.)])\s+(.*)$/;
const HEADING = /^#{1,6}\s+(.*)$/;

/** The blocks of a text in the subset of Markdown that is shown: {kind, text} and for items {number, depth}. */
function findBlocks(text) {
  const blocks = [];
  let code = null;
  let open = null; // the paragraph or item that the next line continues
  for (const line of text.split("\n")) {
    if (code) {
      if (FENCE.test(line)) code = null;
      else code.lines.push(line);
      continue;
    }
    const item = ITEM.exec(line);
    const heading = HEADING.exec(line);
    if (FENCE.test(line)) {
      code = { kind: "code", lines: [] };
      blocks.push(code);
      open = null;
    } else if (!line.trim()) {
      open = null;
    } else if (heading) {
      blocks.push({ kind: "heading", lines: [heading[1]] });
      open = null;
    } else if (item) {
      open = { kind: "item", lines: [item[3]], number: item[2], depth: Math.min(3, Math.floor(item[1].length / 2)) };
      blocks.push(open);
    } else if (open && (open.kind === "paragraph" || /^\s/.test(line))) {
      open.lines.push(open.kind === "item" ? line.trim() : line);
    } else {
      open = { kind: "paragraph", lines: [line] };
      blocks.push(open);
    }
  }
  return blocks.map(({ lines, ...block }) => ({ ...block, text: lines.join("\n") }));
}

/** The text with its Markdown formatted: paragraphs, headings, lists, code and bold; everything else as written. */
function formatMarkdown(text) {
  const result = document.createDocumentFragment();
  let list = null;
  let margin = 0; // the depth of the first item of a list, which may be indented as a whole
  for (const block of findBlocks(text)) {
    if (block.kind === "item") {
      if (!list) margin = block.depth;
      list = appendItem(result, list, block, Math.max(0, block.depth - margin));
      continue;
    }
    list = null;
    if (block.kind === "code") {
      const box = makeNode("pre");
      box.append(makeNode("code", "", block.text));
      result.append(box);
    } else {
      result.append(formatInline(makeNode("p", block.kind === "heading" ? "heading" : ""), block.text));
    }
  }
  return result;
}

/** Append an item to the open list, or to a new one if there is none or it is of another kind; returns the list. */
function appendItem(result, list, block, depth) {
  const tag = block.number === undefined ? "ul" : "ol";
  if (!list || list.localName !== tag) {
    list = makeNode(tag);
    if (tag === "ol") list.start = Number(block.number);
    result.append(list);
  }
  list.append(formatInline(makeNode("li", depth ? `depth-${depth}` : ""), block.text));
  return list;
}

/** Append the text to a node, with `code` and **bold** formatted. */
function formatInline(parent, text) {
  for (const part of text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)) {
    if (part.length > 2 && part.startsWith("`") && part.endsWith("`"))
      parent.append(makeNode("code", "", part.slice(1, -1)));
    else if (part.length > 4 && part.startsWith("**") && part.endsWith("**"))
      parent.append(makeNode("strong", "", part.slice(2, -2)));
    else parent.append(part);
  }
  return parent;
}

/** Words and single signs, each with the white space after it. */
function splitWords(text) {
  return text.match(/[\p{L}\p{N}\p{M}_]+\s*|[^\s\p{L}\p{N}\p{M}_]\s*|\s+/gu) ?? [];
}

const SHORTEST_RUN = 2; // words in a row that are kept; a single common word between other words says nothing
const LARGEST_TABLE = 6e6; // cells of the table of common subsequences; larger differences are marked as a whole

/**
 * The parts of two texts by a longest common subsequence of words: for each text a list of {text, changed}.
 */
function findDifference(left, right) {
  const a = splitWords(left);
  const b = splitWords(right);
  const same = (i, j) => a[i].trimEnd() === b[j].trimEnd();
  let start = 0;
  while (start < a.length && start < b.length && same(start, start)) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && same(a.length - 1 - end, b.length - 1 - end)) end++;
  const kept = commonWords(a.slice(start, a.length - end), b.slice(start, b.length - end));
  const parts = (words, keptWords) =>
    mergeParts(
      words.map((text, i) => ({ text, changed: i >= start && i < words.length - end && !keptWords.has(i - start) })),
    );
  return [parts(a, kept.left), parts(b, kept.right)];
}

/** The indexes, in both lists, of words of a longest common subsequence that are next to each other in both. */
function commonWords(a, b) {
  const left = new Set();
  const right = new Set();
  const width = b.length + 1;
  if (a.length * b.length > LARGEST_TABLE) return { left, right };
  const lengths = new Uint16Array((a.length + 1) * width);
  const x = a.map((word) => word.trimEnd());
  const y = b.map((word) => word.trimEnd());
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) {
      const cell = i * width + j;
      lengths[cell] =
        x[i] === y[j] ? lengths[cell + width + 1] + 1 : Math.max(lengths[cell + width], lengths[cell + 1]);
    }
  }
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    let run = 0;
    while (i + run < a.length && j + run < b.length && x[i + run] === y[j + run]) run++;
    for (let k = 0; k < run && run >= SHORTEST_RUN; k++) {
      left.add(i + k);
      right.add(j + k);
    }
    if (run) {
      i += run;
      j += run;
    } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i++;
    else j++;
  }
  return { left, right };
}

function mergeParts(parts) {
  const merged = [];
  for (const part of parts) {
    const last = merged.at(-1);
    if (last && last.changed === part.changed) last.text += part.text;
    else merged.push({ ...part });
  }
  return merged;
}

/** The parts of one text, with those that differ marked. */
function formatParts(parts, className) {
  const result = document.createDocumentFragment();
  for (const part of parts) result.append(part.changed ? makeNode("mark", className, part.text) : part.text);
  return result;
}

/** How much the words of two texts differ, 0 to 1: one less the Dice coefficient of their words. */
function wordDistance(left, right) {
  const counts = new Map();
  const a = splitWords(left.toLowerCase());
  const b = splitWords(right.toLowerCase());
  for (const word of a) counts.set(word.trim(), (counts.get(word.trim()) ?? 0) + 1);
  let common = 0;
  for (const word of b) {
    const count = counts.get(word.trim()) ?? 0;
    if (count) common++;
    counts.set(word.trim(), count - 1);
  }
  return a.length + b.length ? 1 - (2 * common) / (a.length + b.length) : 0;
}
