/*
 * Files with conversations, in parts that the server accepts.
 */

import { ServerError } from "./api.js";

const LARGEST_PART = 700_000; // bytes of one request with several conversations
const LARGEST_BODY = 16_000_000; // bytes of one request with one conversation; the server accepts a little more

/** The lines of a file, those that are messages of one tree (rows) together, wherever they are in the file. */
function joinRows(lines) {
  const pieces = [];
  const places = new Map(); // id of a tree -> where its rows are in pieces
  for (const line of lines) {
    const tree = treeOfRow(line);
    if (places.has(tree)) {
      pieces[places.get(tree)] += `${line}\n`;
      continue;
    }
    if (tree !== null) places.set(tree, pieces.length);
    pieces.push(`${line}\n`);
  }
  return pieces;
}

/** The id of the tree that a row belongs to; null for a line that is a whole conversation. */
function treeOfRow(line) {
  if (!line.includes('"message_tree_id"')) return null;
  try {
    const row = JSON.parse(line);
    return "prompt" in row || "replies" in row ? null : row.message_tree_id;
  } catch {
    return null; // the server says what is wrong
  }
}

/** A file in parts of whole conversations. */
export function splitFile(text) {
  const markdown = text.trimStart().startsWith("<!-- tunesmith");
  const pieces = markdown ? text.split(/(?=^<!-- tunesmith: \{"title")/m) : joinRows(text.split("\n"));
  const encoder = new TextEncoder();
  const parts = [];
  let size = Infinity;
  for (const piece of pieces) {
    const more = encoder.encode(JSON.stringify(piece)).length;
    if (more > LARGEST_BODY) {
      throw new ServerError("One conversation in this file is larger than the server accepts (16 MB).", 413);
    }
    if (size + more > LARGEST_PART) {
      parts.push("");
      size = 0;
    }
    parts[parts.length - 1] += piece;
    size += more;
  }
  return parts.filter((part) => part.trim());
}
