/*
 * The list of prompts with the replies of all models: search, filters, order, differences, keys.
 */

const byId = (id) => document.getElementById(id);
const data = readData(JSON.parse(byId("data").textContent));
const view = {
  query: "",
  configuration: "",
  samples: "all",
  show: "all",
  sort: "report",
  formatted: true,
  hidden: new Set(),
};
const cards = new Map(); // prompt -> {node, rendered, marked: the replies whose words are compared}
let shown = []; // the prompts in the list
let current = -1; // index in it

/** What the page keeps between visits, as far as the browser allows it. */
const store = {
  name: (what) => `tunesmith-compare/${data.key}/${what}`,
  read(what) {
    try {
      return JSON.parse(localStorage.getItem(store.name(what)));
    } catch {
      return null;
    }
  },
  write(what, value) {
    try {
      localStorage.setItem(store.name(what), JSON.stringify(value));
      return true;
    } catch {
      return false;
    }
  },
};

/** The data of the page with named fields, numbers of prompts, and the columns that can be voted on. */
function readData(raw) {
  const prompts = raw.prompts.map(([key, text, replies], index) => ({
    key,
    text,
    number: index + 1,
    replies: replies.map(([model, configuration, sample, reply, ended, loop, control, reward]) => ({
      model,
      configuration: raw.configurations[configuration],
      sample,
      text: reply,
      ended,
      loop,
      control,
      reward,
      lower: null,
    })),
  }));
  const columns = new Map();
  for (const reply of prompts.flatMap((prompt) => prompt.replies)) {
    const key = `${raw.models[reply.model].key}/${reply.configuration}`;
    const label = `${raw.models[reply.model].label}, ${reply.configuration}`;
    if (!columns.has(key)) columns.set(key, { key, label, model: reply.model, configuration: reply.configuration });
  }
  return { ...raw, prompts, columns: [...columns.values()] };
}

/* Which replies and prompts are shown */

function isShown(reply) {
  return (
    !view.hidden.has(reply.model) &&
    (!view.configuration || reply.configuration === view.configuration) &&
    (view.samples === "all" || reply.sample === Number(view.samples))
  );
}

const shownReplies = (prompt) => prompt.replies.filter(isShown);

const SHOW = {
  all: ["all prompts", () => true],
  different: ["replies that differ", (replies) => new Set(replies.map((reply) => reply.text)).size > 1],
  common: [
    "answered by every model",
    (replies) => new Set(replies.map((reply) => reply.model)).size === data.models.length - view.hidden.size,
  ],
  cut: ["a reply was cut", (replies) => replies.some((reply) => reply.ended === 0)],
  loop: ["a reply repeats itself", (replies) => replies.some((reply) => reply.loop)],
  control: ["text of control tokens", (replies) => replies.some((reply) => reply.control)],
  empty: ["an empty reply", (replies) => replies.some((reply) => !reply.text.trim())],
  voted: ["with votes", (replies, prompt) => votesOn(prompt).length > 0],
};

/** Name -> [label, the number by which prompts are sorted, largest first; null puts a prompt last]. */
const SORT = {
  report: ["order of the report", (replies, prompt) => -prompt.number],
  reward_gap: ["reward, largest gap", (replies) => spread(modelMeans(replies, (reply) => reply.reward))],
  reward: ["reward, lowest first", (replies) => negative(mean(replies.map((reply) => reply.reward)))],
  length: ["length, longest first", (replies) => mean(replies.map((reply) => reply.text.length))],
  length_gap: ["length, largest gap", (replies) => spread(modelMeans(replies, (reply) => reply.text.length))],
  disagreement: ["disagreement of words", (replies) => disagreement(replies)],
  cut: [
    "cut replies first",
    (replies) => mean(replies.map((reply) => (reply.ended === null ? null : 1 - reply.ended))),
  ],
};

function mean(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

const negative = (value) => (value === null ? null : -value);

function spread(values) {
  const known = values.filter((value) => value !== null);
  return known.length > 1 ? Math.max(...known) - Math.min(...known) : null;
}

/** The mean of every model that is shown; of every reply, if only one model is. */
function modelMeans(replies, value) {
  const models = [...new Set(replies.map((reply) => reply.model))];
  if (models.length < 2) return replies.map(value);
  return models.map((model) => mean(replies.filter((reply) => reply.model === model).map(value)));
}

/** The mean word distance of replies of different models; of all replies, if only one model is shown. */
function disagreement(replies) {
  const single = new Set(replies.map((reply) => reply.model)).size < 2;
  const distances = [];
  for (const [index, reply] of replies.entries()) {
    for (const other of replies.slice(index + 1)) {
      if (single || reply.model !== other.model) distances.push(wordDistance(reply.text, other.text));
    }
  }
  return mean(distances);
}

/** A function that says whether a text has what is searched; null if nothing is. */
function findQuery(query) {
  const expression = /^\/(.+)\/$/s.exec(query);
  if (expression) {
    try {
      const pattern = new RegExp(expression[1], "iu");
      return (text) => pattern.test(text);
    } catch {
      return (text) => text.includes(query);
    }
  }
  const words = query.trim().toLowerCase();
  return words ? (text) => text.includes(words) : null;
}

function hasQuery(prompt, replies, matches) {
  prompt.lower ??= prompt.text.toLowerCase();
  return matches(prompt.lower) || replies.some((reply) => matches((reply.lower ??= reply.text.toLowerCase())));
}

/** Select and sort the prompts, and make their cards; the replies of a card are made when it comes into view. */
function showList() {
  const matches = findQuery(view.query);
  const keep = SHOW[view.show][1];
  const found = [];
  for (const prompt of data.prompts) {
    const replies = shownReplies(prompt);
    if (!replies.length || !keep(replies, prompt) || (matches && !hasQuery(prompt, replies, matches))) continue;
    found.push({ prompt, rank: SORT[view.sort][1](replies, prompt) ?? -Infinity });
  }
  found.sort((a, b) => b.rank - a.rank || a.prompt.number - b.prompt.number);
  shown = found.map(({ prompt }) => prompt);
  current = -1;
  watcher.disconnect();
  cards.clear();
  byId("list").replaceChildren(...shown.map(makeCard));
  byId("status").textContent = `${shown.length} of ${data.prompts.length} prompts`;
  markQuery();
}

/* Cards */

const watcher = new IntersectionObserver(
  (entries) =>
    entries
      .filter((entry) => entry.isIntersecting)
      .forEach((entry) => renderCard(data.prompts[entry.target.dataset.index])),
  { rootMargin: "900px" },
);

function makeCard(prompt) {
  const card = makeNode("article", "prompt waiting");
  card.id = `prompt-${prompt.number}`;
  card.tabIndex = -1;
  card.dataset.index = prompt.number - 1;
  const head = makeNode("header");
  const number = makeNode("a", "number", String(prompt.number));
  number.href = `#${card.id}`;
  const tools = makeNode("div", "tools");
  const voted = [...new Set(describeVotes(prompt))];
  if (voted.length) tools.append(makeNode("span", "meta", voted.join("; ")));
  tools.append(
    makeButton("Differences", "Mark the words that differ in the first two replies (d)", () => compareFirst(prompt)),
  );
  tools.append(makeButton("Copy link", "Copy a link to this prompt (c)", () => copyLink(prompt)));
  head.append(number, makeNode("div", "question", prompt.text), tools);
  card.append(head);
  cards.set(prompt, { node: card, rendered: false, marked: [] });
  watcher.observe(card);
  return card;
}

function makeButton(label, title, action) {
  const button = makeNode("button", "quiet", label);
  button.type = "button";
  button.title = title;
  button.addEventListener("click", action);
  return button;
}

function renderCard(prompt, again = false) {
  const card = cards.get(prompt);
  if (!card || (card.rendered && !again)) return;
  card.rendered = true;
  card.node.classList.remove("waiting");
  card.node.querySelector(".columns")?.remove();
  const replies = shownReplies(prompt);
  const parts = card.marked.length === 2 ? findDifference(...card.marked.map((reply) => reply.text)) : null;
  const groups = new Map();
  for (const reply of replies) groups.set(reply.model, [...(groups.get(reply.model) ?? []), reply]);
  const columns = makeNode("div", "columns");
  for (const [model, own] of groups) {
    const nodes = own.map((reply, index) =>
      makeReply(prompt, reply, card, parts, data.models.length > 1 && index === 0),
    );
    if (groups.size === 1) columns.append(...nodes);
    else {
      const column = makeNode("div", "column");
      column.append(...nodes);
      columns.append(column);
    }
  }
  card.node.append(columns);
  markQuery();
}

function makeReply(prompt, reply, card, parts, named) {
  const box = makeNode("section", "reply");
  box.style.setProperty("--hue", hueOf(reply.model));
  if (named) box.append(makeNode("h2", "", data.models[reply.model].label));
  const meta = makeNode("p", "meta");
  meta.append(...describeReply(prompt, reply).map(([text, className]) => makeNode("span", className, text)));
  const place = card.marked.indexOf(reply);
  const mark = makeButton("compare", "Mark the words that differ: choose two replies", () =>
    toggleMarked(prompt, reply),
  );
  mark.setAttribute("aria-pressed", String(place >= 0));
  meta.append(mark);
  const body = makeNode("div", "body");
  body.dir = "auto";
  if (parts && place >= 0) {
    body.classList.add("plain");
    body.append(formatParts(parts[place], place ? "added" : "removed"));
  } else {
    body.classList.toggle("plain", !view.formatted);
    body.append(formatReply(reply));
  }
  box.append(meta, body);
  return box;
}

/** [text, class] of what is known about a reply. */
function describeReply(prompt, reply) {
  const count = prompt.replies.filter(
    (other) => other.model === reply.model && other.configuration === reply.configuration,
  ).length;
  const facts = [[reply.configuration + (count > 1 ? `, ${reply.sample + 1} of ${count}` : ""), ""]];
  facts.push([`${reply.text.length.toLocaleString("en")} characters`, ""]);
  if (reply.ended !== null) facts.push(reply.ended ? ["ended", "good"] : ["cut", "bad"]);
  if (reply.loop) facts.push(["repeats itself", "bad"]);
  if (reply.control) facts.push(["control text", "bad"]);
  if (reply.reward !== null) facts.push([`reward ${reply.reward.toFixed(2)}`, ""]);
  return facts;
}

function formatReply(reply) {
  if (!reply.text.trim()) return makeNode("p", "nothing", "(no text)");
  return view.formatted ? formatMarkdown(reply.text) : document.createTextNode(reply.text);
}

const hueOf = (model) => `oklch(0.68 0.14 ${(250 + 137.5 * model) % 360})`;

function toggleMarked(prompt, reply) {
  const card = cards.get(prompt);
  card.marked = card.marked.includes(reply)
    ? card.marked.filter((other) => other !== reply)
    : [...card.marked, reply].slice(-2);
  renderCard(prompt, true);
}

/** Compare the first replies of two models, or the first two replies of the only model; again: stop comparing. */
function compareFirst(prompt) {
  const card = cards.get(prompt);
  const replies = shownReplies(prompt);
  const other = replies.find((reply) => reply.model !== replies[0].model) ?? replies[1];
  card.marked = card.marked.length || !other ? [] : [replies[0], other];
  renderCard(prompt, true);
}

/** Highlight what was searched in the cards that are rendered, without changing them. */
function markQuery() {
  if (!CSS.highlights) return;
  CSS.highlights.delete("search");
  const words = view.query.trim().toLowerCase();
  if (!words || /^\/.+\/$/.test(words)) return;
  const ranges = [];
  const texts = document.createTreeWalker(byId("list"), NodeFilter.SHOW_TEXT);
  while (texts.nextNode() && ranges.length < 5000) {
    const text = texts.currentNode.data.toLowerCase();
    for (
      let at = text.indexOf(words);
      at >= 0 && text.length === texts.currentNode.length;
      at = text.indexOf(words, at + words.length)
    ) {
      const range = new Range();
      range.setStart(texts.currentNode, at);
      range.setEnd(texts.currentNode, at + words.length);
      ranges.push(range);
    }
  }
  CSS.highlights.set("search", new Highlight(...ranges));
}

/* Moving */

function goTo(index) {
  if (!shown.length) return;
  const last = cards.get(shown[current]);
  last?.node.classList.remove("current");
  current = Math.min(shown.length - 1, Math.max(0, index));
  for (const near of shown.slice(Math.max(0, current - 2), current + 2)) renderCard(near);
  const { node } = cards.get(shown[current]);
  node.classList.add("current");
  node.scrollIntoView({ block: "start" });
  node.focus({ preventScroll: true });
}

/** The prompt that keys refer to: the current one, or else the first one on the screen. */
function currentIndex() {
  if (current >= 0) return current;
  return Math.max(
    0,
    shown.findIndex((prompt) => cards.get(prompt).node.getBoundingClientRect().bottom > 200),
  );
}

/** Show a prompt by its number; the filters are removed if they hide it. */
function goToNumber(number) {
  const prompt = data.prompts[number - 1];
  if (!prompt) return;
  if (!shown.includes(prompt)) {
    Object.assign(view, { query: "", show: "all", configuration: "", samples: "all", hidden: new Set() });
    showControls();
    showList();
  }
  goTo(shown.indexOf(prompt));
}

function goToHash() {
  const found = /^#prompt-(\d+)$/.exec(location.hash);
  if (found) goToNumber(Number(found[1]));
}

async function copyLink(prompt) {
  const link = location.href.split("#")[0] + `#prompt-${prompt.number}`;
  history.replaceState(null, "", link);
  try {
    await navigator.clipboard.writeText(link);
    announce("The link was copied.");
  } catch {
    announce("The address of the page is now the link to this prompt.");
  }
}

/** A message to the user, read out by screen readers. */
function announce(text) {
  byId(byId("votes").hidden ? "status" : "message").textContent = text;
}
