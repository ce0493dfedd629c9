/*
 * The page of a run: it draws the curves, and loads itself again while the run trains and somebody looks at it.
 */

const byId = (id) => document.getElementById(id);
const LATE_SECONDS = 90;
const LATE_RELOAD_SECONDS = 20;
const KEPT = `tunesmith:${location.pathname}`;
const FRAGMENT = "#kept=";
let zoomed = false;
let pressed = false;

/**
 * What is kept in this window: where it was scrolled to, what is unfolded, and whether it follows the run. A page that
 * `tunesmith serve` shows has no storage, because it must not reach that of the chat: it keeps this in its fragment.
 */
function readKept() {
  return parseKept(() => sessionStorage.getItem(KEPT)) ?? parseKept(() => readFragment()) ?? {};
}

function parseKept(read) {
  try {
    const kept = JSON.parse(read());
    return typeof kept === "object" ? kept : null;
  } catch {
    return null;
  }
}

const readFragment = () =>
  location.hash.startsWith(FRAGMENT) ? decodeURIComponent(location.hash.slice(FRAGMENT.length)) : "null";

function writeKept(values) {
  const text = JSON.stringify({ ...readKept(), ...values });
  try {
    sessionStorage.setItem(KEPT, text);
  } catch {
    location.replace(FRAGMENT + encodeURIComponent(text)); // which loads nothing
  }
}

function drawCharts() {
  for (const plot of charts.splice(0)) plot.destroy();
  byId("charts").replaceChildren();
  byId("further-charts").replaceChildren();
  const [main, further] = [true, false].map((wanted) => data.charts.filter((chart) => chart[3] === wanted));
  for (const chart of main) makeChart(chart, byId("charts"), noteZoom);
  byId("further").hidden = !further.length;
  if (byId("further").open) for (const chart of further) makeChart(chart, byId("further-charts"), noteZoom);
}

function noteZoom(plot) {
  const steps = plot.data[0];
  const { min, max } = plot.scales.x;
  zoomed = min > steps[0] || max < steps[steps.length - 1];
  byId("all-steps").hidden = !zoomed;
}

function showAllSteps() {
  for (const plot of charts) plot.setScale("x", { min: plot.data[0][0], max: plot.data[0][plot.data[0].length - 1] });
}

const isFollowing = () => byId("follow").getAttribute("aria-pressed") === "true";

function toggleFollowing() {
  byId("follow").setAttribute("aria-pressed", String(!isFollowing()));
  writeKept({ follow: isFollowing() });
}

/** Load the page again, unless somebody reads a part of a curve, selects text or looks at something else. */
function reload() {
  const selected = String(getSelection()).length > 0;
  if (document.hidden || zoomed || pressed || selected || !isFollowing()) return;
  keepPlace();
  location.reload();
}

function keepPlace() {
  const open = [...document.querySelectorAll("details[open]")].map((each) => each.id);
  writeKept({ scroll: window.scrollY, open });
}

/** Seconds since the page was written. */
const age = () => (Date.now() - Date.parse(data.updated)) / 1000;

function showTime() {
  const time = new Date(data.updated);
  if (byId("updated") && !Number.isNaN(time.valueOf())) byId("updated").textContent = time.toLocaleString();
  const late = data.reload > 0 && age() > LATE_SECONDS;
  byId("late").hidden = !late;
  if (late) {
    const minutes = Math.round(age() / 60);
    byId("late").textContent =
      `This page was written ${minutes.toLocaleString("en")} min ago: the run is in a long step or evaluation, ` +
      "or its process has ended. `tunesmith runs` shows whether it still trains.";
  }
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  writeKept({ theme: root.dataset.theme });
  drawCharts();
}

const KEYS = { f: toggleFollowing, t: switchTheme, 0: showAllSteps };

function bindControls() {
  byId("follow").addEventListener("click", toggleFollowing);
  byId("theme").addEventListener("click", switchTheme);
  byId("all-steps").addEventListener("click", showAllSteps);
  byId("further").addEventListener("toggle", drawCharts);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
  document.addEventListener("pointerdown", () => (pressed = true));
  for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, () => (pressed = false));
  document.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.altKey && Object.hasOwn(KEYS, event.key)) KEYS[event.key]();
  });
  if (!data.reload) return;
  setTimeout(function again() {
    reload();
    setTimeout(again, (age() > LATE_SECONDS ? LATE_RELOAD_SECONDS : data.reload) * 1000);
  }, data.reload * 1000);
  document.addEventListener("visibilitychange", () => age() > data.reload && reload());
}

function startPage() {
  const kept = readKept();
  if (kept.theme === "light" || kept.theme === "dark") document.documentElement.dataset.theme = kept.theme;
  for (const id of Array.isArray(kept.open) ? kept.open : []) {
    const found = byId(String(id));
    if (found instanceof HTMLDetailsElement) found.open = true;
  }
  byId("follow").setAttribute("aria-pressed", String(kept.follow !== false));
  byId("follow").hidden = !data.reload;
  byId("buttons").hidden = byId("hint").hidden = false;
  drawCharts();
  bindControls();
  showTime();
  setInterval(showTime, 10000);
  if (kept.scroll > 0) window.scrollTo(0, kept.scroll);
  writeKept({ scroll: 0 });
}

startPage();
