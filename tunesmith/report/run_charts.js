"use strict";

/*
 * The charts of a run. Values are numbers, and names enter the page only through textContent or the canvas.
 */

const data = JSON.parse(document.getElementById("data").textContent);
const HEIGHT = 220;
const COLOURS = 8;
const charts = [];

function makeNode(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** A number as short as possible: 1,234, 0.0123, 4e-5. */
function formatNumber(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) {
    return value.toExponential(3).replace(/\.?0*e/, "e").replace("e+", "e");
  }
  return value.toLocaleString("en", { maximumSignificantDigits: size >= 1e4 ? 6 : 4 });
}

/** A share of 1 in percent. */
function formatShare(value) {
  if (value === null || value === undefined) return "–";
  return `${(100 * value).toLocaleString("en", { maximumFractionDigits: 1 })} %`;
}

const TENS = [...Array(9).keys()].map((zeros) => 10 ** zeros);
const formatStep = (step) => (step === null ? "–" : step.toLocaleString("en"));
const STEP_AXIS = {
  label: "step",
  labelFont: "12px system-ui",
  labelSize: 18,
  size: 24,
  incrs: TENS.flatMap((ten) => [ten, 2 * ten, 5 * ten]),
  values: (plot, ticks) => ticks.map(formatStep),
};
const FORMATS = { number: formatNumber, share: formatShare };

/** The tables that uPlot joins, and the series of their columns: {label, bound: -1, 0 or 1, dots}. */
function collectSeries([, , names, , compared]) {
  const tables = [];
  const series = [];
  const short = (name) => (names.length > 1 ? name.split("/").pop() : "");
  const columns = names.filter((name) => data.curves[name]);
  if (columns.length) {
    tables.push([data.steps]);
    for (const name of columns) {
      const [mean, low, high] = data.curves[name];
      tables[0].push(mean);
      series.push({ label: short(name) || "training", bound: 0, dots: false });
      if (low.length) {
        tables[0].push(high, low);
        series.push({ label: "highest", bound: 1 }, { label: "lowest", bound: -1 });
      }
    }
  }
  const evaluated = [];
  const sources = names.length > 1 ? data.validation.slice(0, 1) : data.validation; // the first is all together
  for (const [label, rows] of sources) {
    for (const name of names.filter((each) => rows[each] && (compared || !data.curves[each]))) {
      evaluated.push(rows[name]);
      series.push({ label: [label, short(name)].filter(Boolean).join(", "), bound: 0, dots: true });
    }
  }
  if (evaluated.length) tables.push([data.evaluated, ...evaluated]);
  return { tables, series };
}

const SPIKE = 5;
const FEWEST_VALUES = 20;

/** The end of the axis where a few values are far above all others: [end, values above it, the highest], or null. */
function findSpikes(tables) {
  const values = tables.flatMap(([, ...columns]) => columns.flat()).filter((value) => Number.isFinite(value));
  const sorted = values.sort((one, other) => one - other);
  const usual = sorted[Math.floor(0.97 * (sorted.length - 1))];
  const highest = sorted[sorted.length - 1];
  if (sorted.length < FEWEST_VALUES || sorted[0] < 0 || highest <= SPIKE * usual) return null;
  const end = 1.5 * usual;
  return [end, sorted.filter((value) => value > end).length, highest];
}

/** The colour of a variable of the style sheet; its text may be a function that a canvas does not know. */
function findColour(name) {
  const probe = makeNode("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function fade(colour, share) {
  return colour.replace(/^rgba?\(([^,]+),([^,]+),([^,)]+).*$/, `rgba($1,$2,$3,${share})`);
}

/** The options of uPlot for series, and the bands between the lowest and the highest values. */
function describeSeries(series, format) {
  const bands = [];
  let colour = -1;
  const described = series.map((each, index) => {
    if (!each.bound) colour += 1;
    const stroke = findColour(`series-${colour % COLOURS}`);
    if (each.bound === 1) bands.push({ series: [index + 1, index + 2], fill: fade(stroke, 0.2) });
    return each.bound
      ? { label: each.label, class: "bound", width: 0, points: { show: false } }
      : {
          label: each.label,
          stroke,
          width: each.dots ? 2 : 1.3,
          points: { show: each.dots ? true : undefined, size: 6, fill: stroke },
          value: (plot, value) => format(value),
        };
  });
  return { bands, described };
}

/** A dashed line at the step of the chosen checkpoint. */
function drawChosen(plot) {
  const { min, max } = plot.scales.x;
  if (!data.best || data.best < min || data.best > max) return;
  const at = Math.round(plot.valToPos(data.best, "x", true));
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = findColour("good");
  ctx.setLineDash([4 * devicePixelRatio, 4 * devicePixelRatio]);
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(at, bbox.top);
  ctx.lineTo(at, bbox.top + bbox.height);
  ctx.stroke();
  ctx.restore();
}

/** The values of the axis for those of the steps that are drawn. */
function findRange(low, high, spikes) {
  const end = spikes && low !== null && low < spikes[0] ? Math.min(high, spikes[0]) : high;
  return uPlot.rangeNum(low, end, 0.1, true);
}

/** Bands are shown and hidden with the curve before them. */
function toggleBand(plot, index, change) {
  if (change.show === undefined || !index) return;
  for (let next = index + 1; plot.series[next]?.class === "bound"; next += 1) plot.setSeries(next, change);
}

function makeChart(chart, place, onZoom) {
  const [title, kind] = chart;
  const { tables, series } = collectSeries(chart);
  if (!tables.length) return;
  const figure = makeNode("figure");
  figure.append(makeNode("figcaption", "", title));
  const area = makeNode("div");
  area.tabIndex = 0;
  area.setAttribute("role", "group");
  area.setAttribute("aria-label", `${title}; arrow keys show the values of a step`);
  figure.append(area);
  place.append(figure);
  const format = FORMATS[kind];
  const axis = { stroke: findColour("soft"), font: "12px system-ui", ticks: { show: false } };
  const grid = { stroke: findColour("line"), width: 1 };
  const { bands, described } = describeSeries(series, format);
  const spikes = findSpikes(tables);
  if (spikes) {
    const [end, count, highest] = spikes;
    const which = count === 1 ? "1 value is" : `${count.toLocaleString("en")} values are`;
    const text = `${which} above ${format(end)}, up to ${format(highest)}`;
    figure.firstChild.append(makeNode("span", "spikes", text));
  }
  const options = {
    width: Math.max(200, area.clientWidth),
    height: HEIGHT,
    bands,
    scales: { x: { time: false }, y: { range: (plot, low, high) => findRange(low, high, spikes) } },
    series: [{ label: "step", value: (plot, value) => formatStep(value ?? null) }, ...described],
    axes: [
      { ...axis, ...STEP_AXIS, grid: { show: false } },
      { ...axis, grid, size: 58, values: (plot, ticks) => ticks.map(format) },
    ],
    cursor: { sync: { key: "run", scales: ["x", null] }, drag: { x: true, y: false }, points: { size: 7 } },
    hooks: { draw: [drawChosen], setSeries: [toggleBand], setScale: [(plot, name) => name === "x" && onZoom(plot)] },
  };
  const plot = new uPlot(options, uPlot.join(tables), area);
  area.addEventListener("keydown", (event) => moveCursor(plot, event));
  new ResizeObserver(() => {
    if (area.clientWidth && area.clientWidth !== plot.width) plot.setSize({ width: area.clientWidth, height: HEIGHT });
  }).observe(area);
  charts.push(plot);
}

/** The arrow keys move to the step before or after, Home and End to the first and last one. */
function moveCursor(plot, event) {
  const last = plot.data[0].length - 1;
  const at = plot.cursor.idx ?? last;
  const next = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const index = Math.min(last, Math.max(0, next));
  plot.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: plot.over.clientHeight / 2 });
}
