/*
 * Controls and keys, and the start of the page.
 */

function fillSelect(id, options, value) {
  byId(id).replaceChildren(
    ...options.map(([key, label]) => {
      const option = makeNode("option", "", label);
      option.value = key;
      return option;
    }),
  );
  byId(id).value = value;
}

/** Only choices that can make a difference are offered. */
function offered(table, unknown) {
  return Object.entries(table)
    .filter(([name]) => !unknown.has(name))
    .map(([name, [label]]) => [name, label]);
}

/** Set every control to what is shown. */
function showControls() {
  const replies = data.prompts.flatMap((prompt) => prompt.replies);
  const most = Math.max(...replies.map((reply) => reply.sample)) + 1;
  const unknown = new Set();
  if (replies.every((reply) => reply.reward === null)) ["reward", "reward_gap"].forEach((name) => unknown.add(name));
  if (replies.every((reply) => reply.ended === null)) unknown.add("cut");
  if (data.models.length < 2) unknown.add("common");
  fillSelect("configuration", [["", "all"], ...data.configurations.map((name) => [name, name])], view.configuration);
  fillSelect(
    "samples",
    [["all", "all"], ...Array.from({ length: most }, (_, n) => [String(n), `number ${n + 1}`])],
    view.samples,
  );
  fillSelect("show", offered(SHOW, unknown), view.show);
  fillSelect("sort", offered(SORT, unknown), view.sort);
  byId("search").value = view.query;
  byId("jump").max = data.prompts.length;
  byId("formatted").setAttribute("aria-pressed", String(view.formatted));
  byId("models").hidden = data.models.length < 2;
  byId("models").replaceChildren(...data.models.map(makeModelButton));
}

function makeModelButton(model, index) {
  const button = makeNode("button", "", model.label);
  button.type = "button";
  button.title = `Show or hide the replies of ${model.name} (${model.file})`;
  button.setAttribute("aria-pressed", String(!view.hidden.has(index)));
  button.style.setProperty("--hue", hueOf(index));
  button.addEventListener("click", () => {
    if (!view.hidden.delete(index)) view.hidden.add(index);
    showControls();
    showList();
    byId("models").children[index].focus();
  });
  return button;
}

function bindControls() {
  let timer = 0;
  byId("search").addEventListener("input", (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      view.query = event.target.value;
      showList();
    }, 120);
  });
  for (const id of ["configuration", "samples", "show", "sort"]) {
    byId(id).addEventListener("change", (event) => {
      view[id] = event.target.value;
      showList();
    });
  }
  byId("jump").addEventListener("change", (event) => goToNumber(Number(event.target.value)));
  const clicks = {
    formatted: toggleFormatted,
    theme: switchTheme,
    keys: () => byId("help").showModal(),
    start: startVotes,
    close: closeVotes,
    save: saveVotes,
    reveal: revealResult,
    undo: undoVote,
    skip: nextBallot,
  };
  for (const [id, action] of Object.entries(clicks)) byId(id).addEventListener("click", () => action());
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.addEventListener("click", () => castVote(button.dataset.verdict));
  }
  for (const id of ["first", "second"]) byId(id).addEventListener("change", () => openBallot());
  byId("load").addEventListener("change", async (event) => {
    if (event.target.files.length) await loadVotes(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("keydown", handleKey);
  window.addEventListener("hashchange", goToHash);
}

function toggleFormatted() {
  view.formatted = !view.formatted;
  byId("formatted").setAttribute("aria-pressed", String(view.formatted));
  if (byId("votes").hidden) for (const prompt of shown) if (cards.get(prompt).rendered) renderCard(prompt, true);
  if (!byId("votes").hidden) showBallot();
}

function switchTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  store.write("theme", document.documentElement.dataset.theme);
}

function startVotes() {
  byId("bar").hidden = byId("list").hidden = true;
  byId("votes").hidden = false;
  announce("");
  keepVotes(); // says before the first vote if that is not possible
  openBallot();
  window.scrollTo(0, 0);
}

function closeVotes() {
  byId("bar").hidden = byId("list").hidden = false;
  byId("votes").hidden = true;
  showList();
}

const LIST_KEYS = {
  j: () => goTo(current < 0 ? currentIndex() : current + 1),
  k: () => goTo(currentIndex() - 1),
  "/": () => byId("search").focus(),
  b: startVotes,
  d: () => shown.length && compareFirst(shown[currentIndex()]),
  c: () => shown.length && copyLink(shown[currentIndex()]),
};
const VOTE_KEYS = {
  1: () => castVote("left"),
  ArrowLeft: () => castVote("left"),
  2: () => castVote("tie"),
  3: () => castVote("both_bad"),
  4: () => castVote("right"),
  ArrowRight: () => castVote("right"),
  z: undoVote,
  s: nextBallot,
  r: revealResult,
  Escape: closeVotes,
};
const KEYS = { m: toggleFormatted, "?": () => byId("help").showModal() };

function handleKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = (byId("votes").hidden ? LIST_KEYS : VOTE_KEYS)[event.key] ?? KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

/** The two columns that are compared at first: of two models with a configuration that both have, if there are such. */
function firstColumns() {
  const { columns } = data;
  for (const [index, column] of columns.entries()) {
    const other = columns.findIndex(
      (each) => each.model !== column.model && each.configuration === column.configuration,
    );
    if (other >= 0) return [index, other];
  }
  const other = columns.findIndex((each) => each.model !== columns[0].model);
  return [0, other >= 0 ? other : Math.min(1, columns.length - 1)];
}

/** Prompts that are scrolled to end below the bar, which stays at the top of wide windows. */
function followBar() {
  const height = getComputedStyle(byId("bar")).position === "sticky" ? byId("bar").offsetHeight : 0;
  document.documentElement.style.setProperty("--bar", `${height}px`);
}

function startPage() {
  const theme = store.read("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  const kept = store.read("votes");
  for (const vote of Array.isArray(kept) ? kept.filter(isVote) : []) votes.set(voteKeyOf(vote), vote);
  const columns = data.columns.map((column, index) => [String(index), column.label]);
  const [first, second] = firstColumns();
  fillSelect("first", columns, String(first));
  fillSelect("second", columns, String(second));
  view.configuration = data.columns[first].configuration;
  byId("start").hidden = data.columns.length < 2;
  byId("app").hidden = false;
  showControls();
  bindControls();
  new ResizeObserver(followBar).observe(byId("bar"));
  followBar();
  showList();
  goToHash();
}

startPage();
