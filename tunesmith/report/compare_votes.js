/*
 * Blind votes: two columns (a model with a sampling configuration) are compared prompt by prompt without their names.
 * Votes are kept in the browser, saved as a file that `tunesmith preferences` reads, and loaded again.
 */

const VOTE_FORMAT = "tunesmith votes";
const VERDICTS = ["left", "right", "tie", "both_bad"];

// voteKey -> {prompt, left, right, verdict}; left and right are {report, configuration, sample}
const votes = new Map();
const ballot = { first: null, second: null, prompts: [], at: 0, history: [], revealed: new Set() };

/** A number of 32 bits from a text: FNV-1a, and the last step of MurmurHash3. */
function hashText(text) {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** The replies of a column to a prompt. */
function repliesOf(prompt, column) {
  return prompt.replies.filter(
    (reply) => reply.model === column.model && reply.configuration === column.configuration,
  );
}

/** {left, right}: which reply of each column is shown on which side; a function of seed, prompt and columns. */
function drawSides(prompt, first, second) {
  const [a, b] = [first, second].sort((x, y) => (x.key < y.key ? -1 : 1));
  const draw = (what) => hashText(`${data.seed}/${prompt.key}/${a.key}/${b.key}/${what}`);
  const choose = (column) => {
    const replies = repliesOf(prompt, column);
    return replies[draw(column.key) % replies.length];
  };
  return draw("sides") % 2 ? { left: choose(a), right: choose(b) } : { left: choose(b), right: choose(a) };
}

function sideOf(reply) {
  return { report: data.models[reply.model].key, configuration: reply.configuration, sample: reply.sample };
}

const sideColumn = (side) => `${side.report}/${side.configuration}`;

function voteKey(promptKey, columns) {
  return JSON.stringify([promptKey, ...columns.toSorted()]);
}

const voteKeyOf = (vote) => voteKey(vote.prompt, [sideColumn(vote.left), sideColumn(vote.right)]);

/** The key of the column that a vote prefers; null for a tie or two bad replies. */
function winnerOf(vote) {
  return vote.verdict === "left" || vote.verdict === "right" ? sideColumn(vote[vote.verdict]) : null;
}

function currentVote(prompt) {
  return votes.get(voteKey(prompt.key, [ballot.first.key, ballot.second.key]));
}

/** Votes on a prompt, by any two columns. */
function votesOn(prompt) {
  return [...votes.values()].filter((vote) => vote.prompt === prompt.key);
}

/* What is kept and what is saved */

function keepVotes() {
  if (!store.write("votes", [...votes.values()])) {
    announce("This page cannot keep votes: press “Save votes” before you close it, and load the file to continue.");
  }
}

function saveVotes() {
  const content = { format: VOTE_FORMAT, version: 1, comparison: data.key, votes: [...votes.values()] };
  const link = makeNode("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1) + "\n"], { type: "application/json" }));
  link.download = `votes-${data.key.slice(0, 8)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  announce(`Saved ${votes.size} votes as ${link.download}.`);
}

/** Add the votes of a file; those that do not belong to these reports are counted and left out. */
async function loadVotes(file) {
  let found;
  try {
    const content = JSON.parse(await file.text());
    if (content.format !== VOTE_FORMAT || !Array.isArray(content.votes)) throw new Error("no votes");
    found = content.votes;
  } catch {
    announce(`${file.name} is not a file of votes.`);
    return;
  }
  const known = found.filter(isVote);
  for (const vote of known) votes.set(voteKeyOf(vote), vote);
  const others = found.length - known.length;
  keepVotes();
  announce(`Loaded ${known.length} votes.` + (others ? ` ${others} others are not about these reports.` : ""));
  openBallot(false);
}

/** Whether a value that was read is a vote on replies of this page. */
function isVote(vote) {
  const prompt = typeof vote === "object" && vote && data.prompts.find((each) => each.key === vote.prompt);
  const exists = (side) =>
    typeof side === "object" &&
    side &&
    prompt.replies.some(
      (reply) =>
        JSON.stringify(sideOf(reply)) ===
        JSON.stringify({ report: side.report, configuration: side.configuration, sample: side.sample }),
    );
  return Boolean(prompt && VERDICTS.includes(vote.verdict) && exists(vote.left) && exists(vote.right));
}

/* Voting */

/** Show the votes between the selected columns, from the first prompt without a vote. */
function openBallot(fromSelects = true) {
  if (fromSelects || !ballot.first) {
    ballot.first = data.columns[byId("first").value];
    ballot.second = data.columns[byId("second").value];
    ballot.history = [];
  }
  const both = (prompt) => repliesOf(prompt, ballot.first).length && repliesOf(prompt, ballot.second).length;
  ballot.prompts = ballot.first === ballot.second ? [] : data.prompts.filter(both);
  ballot.at = ballot.prompts.findIndex((prompt) => !currentVote(prompt));
  if (ballot.at < 0) ballot.at = ballot.prompts.length;
  byId("result").hidden = true;
  showBallot();
}

function showBallot() {
  const count = ballot.prompts.length;
  const voted = ballot.prompts.filter(currentVote).length;
  byId("progress").max = Math.max(1, count);
  byId("progress").value = voted;
  byId("count").textContent = `${voted} of ${count}`;
  const prompt = ballot.prompts[ballot.at];
  byId("ballot").hidden = !prompt;
  if (!prompt) {
    announce(
      ballot.first === ballot.second
        ? "Choose two different columns."
        : count
          ? "Every prompt has a vote. Reveal the result, or save the votes."
          : "No prompt has replies of both.",
    );
    return;
  }
  const sides = drawSides(prompt, ballot.first, ballot.second);
  byId("asked").textContent = prompt.number;
  byId("question").textContent = prompt.text;
  byId("left").replaceChildren(formatReply(sides.left));
  byId("right").replaceChildren(formatReply(sides.right));
  for (const id of ["left", "right"]) byId(id).classList.toggle("plain", !view.formatted);
}

function castVote(verdict) {
  const prompt = ballot.prompts[ballot.at];
  if (!prompt) return;
  const sides = drawSides(prompt, ballot.first, ballot.second);
  const vote = { prompt: prompt.key, left: sideOf(sides.left), right: sideOf(sides.right), verdict };
  ballot.history.push([ballot.at, voteKeyOf(vote)]);
  votes.set(voteKeyOf(vote), vote);
  announce("");
  keepVotes();
  nextBallot();
}

/** The next prompt without a vote, from here on and then from the beginning. */
function nextBallot() {
  const order = [...ballot.prompts.keys()];
  const open = (index) => !currentVote(ballot.prompts[index]);
  ballot.at =
    order.slice(ballot.at + 1).find(open) ?? order.slice(0, ballot.at + 1).find(open) ?? ballot.prompts.length;
  byId("result").hidden = true;
  showBallot();
  window.scrollTo(0, 0);
}

function undoVote() {
  const last = ballot.history.pop();
  if (!last) return;
  votes.delete(last[1]);
  ballot.at = last[0];
  keepVotes();
  showBallot();
}

/* The result */

/** Wins, ties and bad pairs of the first of two columns. */
function countVotes(first, second) {
  const counts = { wins: 0, losses: 0, ties: 0, bad: 0 };
  const columns = new Set([first.key, second.key]);
  for (const vote of votes.values()) {
    if (!columns.has(sideColumn(vote.left)) || !columns.has(sideColumn(vote.right))) continue;
    const winner = winnerOf(vote);
    if (winner) counts[winner === first.key ? "wins" : "losses"]++;
    else counts[vote.verdict === "tie" ? "ties" : "bad"]++;
  }
  return counts;
}

/** Wilson's 95 % interval of a rate. */
function wilsonInterval(wins, total) {
  if (!total) return [0, 1];
  const z = 1.959964;
  const p = wins / total;
  const centre = (p + (z * z) / (2 * total)) / (1 + (z * z) / total);
  const half = (z * Math.sqrt((p * (1 - p)) / total + (z * z) / (4 * total * total))) / (1 + (z * z) / total);
  return [Math.max(0, centre - half), Math.min(1, centre + half)];
}

/** The two-sided p-value of the exact sign test. */
function signTest(wins, losses) {
  const total = wins + losses;
  let term = Math.pow(0.5, total / 2) * Math.pow(0.5, total - total / 2);
  let tail = 0;
  for (let k = 0; k <= Math.min(wins, losses); k++) {
    tail += term;
    term *= (total - k) / (k + 1);
  }
  return Math.min(1, 2 * tail);
}

/** The lines of a result. counts: wins, losses, ties and bad pairs of the column that is named first. */
function describeResult(first, second, { wins, losses, ties, bad }) {
  const decided = wins + losses;
  const lines = [`${first}: ${wins} wins`, `${second}: ${losses} wins`, `Ties: ${ties}, both bad: ${bad}`];
  if (!decided) return [...lines, "There is no decided vote yet."];
  const percent = (share) => `${Math.round(100 * share)} %`;
  const [low, high] = wilsonInterval(wins, decided).map(percent);
  const p = signTest(wins, losses);
  return [
    ...lines,
    `${first} wins ${percent(wins / decided)} of the decided votes (95 % interval: ${low} to ${high}).`,
    `Sign test: p = ${p < 0.001 ? p.toExponential(1) : p.toFixed(3)}. ` +
      (p < 0.05 ? `${wins > losses ? first : second} is preferred.` : "No difference shown."),
  ];
}

function revealResult() {
  if (!ballot.first || ballot.first === ballot.second) return;
  const lines = describeResult(ballot.first.label, ballot.second.label, countVotes(ballot.first, ballot.second));
  const advice = "Decide on the number of votes before: to continue until the result is clear is not a test.";
  const box = byId("result");
  box.replaceChildren(...lines.map((line) => makeNode("p", "", line)), makeNode("p", "note", advice));
  box.hidden = false;
  ballot.revealed.add(voteKey("", [ballot.first.key, ballot.second.key]));
  box.scrollIntoView({ block: "nearest" });
}

/** What the list says about the votes on a prompt; which side won only where the result was revealed. */
function describeVotes(prompt) {
  return votesOn(prompt).map((vote) => {
    const columns = [sideColumn(vote.left), sideColumn(vote.right)];
    if (!ballot.revealed.has(voteKey("", columns))) return "voted";
    const winner = winnerOf(vote);
    if (winner) return `vote: ${data.columns.find((column) => column.key === winner).label}`;
    return vote.verdict === "tie" ? "vote: tie" : "vote: both bad";
  });
}
