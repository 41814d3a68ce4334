// The page: what the session is, what was done, and which part shows it.
import { askBytes, askJson, byId, content, dot, isTyping, make, notice, percent, placeTip, send } from "./ui.js";
import { createMap } from "./map.js";
import { createClusters } from "./clusters.js";
import { createRows } from "./rows.js";
import { createCertify, createLabel } from "./label.js";
import { createDrop } from "./drop.js";

const app = {
  state: null, clusters: [], level: null,
  nameOf: (label) => label < 0 ? "no cluster" : (app.level || app.clusters)[label]?.name ?? "cluster " + label,
  // Every action: refused ones are said and change nothing here.
  async act(body, done) {
    try {
      const state = await (await send("act", { version: app.state.version, ...body })).json();
      if (done) notice(done);
      await app.take(state);
      return true;
    } catch (error) {
      notice(error.message, true);
      if (error.status === 409) await app.refresh();
      return false;
    }
  },
  async take(state) {
    const before = app.state;
    app.state = state;
    if (before && app.isLaidOut && before.rows !== state.rows) map.setPoints(await askBytes("points"));
    if (!before || before.version !== state.version) await app.reload();
    else if (before.answers !== state.answers && !app.level) map.setColors(await askBytes("colors"), state.classes);
    facts();
    label.show();
    certify.show();
    if (state.busy || (state.pending && !state.problem)) poll();
  },
  async refresh() { await app.take(await askJson("state")); },
  async reload() {
    const told = await askJson("clusters");
    app.clusters = told.clusters;
    app.level = null;
    clusters.clear();
    rows.refresh().catch(lost);
    map.setColors(await askBytes("colors"), app.state.classes);
    if (app.isLaidOut) levels();
  },
  openTab(name, focus = true) {
    for (const tab of document.querySelectorAll("[role=tab]")) {
      const on = tab.id === "tab-" + name;
      tab.setAttribute("aria-selected", String(on));
      tab.tabIndex = on ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !on;
      if (on && focus) tab.focus();
    }
    if (name === "label") label.open();
    if (name === "certify") certify.open();
  },
  // Classes that were named, then the other clusters' names: what an answer may be.
  choices() {
    const names = [...app.state.classes, ...app.clusters.map((c) => c.name)];
    return [...new Set(names)];
  },
};

const map = createMap({
  nameOf: (label) => app.nameOf(label),
  scrolls: () => window.innerWidth <= 820,  // in a narrow window the wheel is the page's
  sizes: () => (app.level || app.clusters).map((c) => c.size),
  onPoint: tip,
  onOpen: (row) => { if (app.state) rows.similar(row); },
  onLasso: (found) => { if (!app.state) notice("still loading …"); else if (found.length) rows.showAll(found, found.length.toLocaleString("en") + " rows inside the lasso"); else notice("no rows inside the lasso"); },
});
app.map = map;
const clusters = createClusters(app);
const rows = createRows(app);
const label = createLabel(app);
const certify = createCertify(app);
app.rows = rows;
createDrop(app);

// -- above everything

function range(low, high) {
  return make("small", { class: "dim", title: "if the level of the confidence is off, in nine of ten cases" }, " (" + percent(low) + " to " + percent(high) + ")");
}

function facts() {
  const { state } = app, { figures } = state;
  document.title = (state.is_saved ? "" : "• ") + state.title;
  byId("title").textContent = state.title;
  byId("fact-rows").textContent = state.rows.toLocaleString("en");
  byId("fact-clusters").textContent = figures.n_clusters.toLocaleString("en");
  byId("word-accuracy").textContent = state.word === "score" ? "mean score (not calibrated)" : "expected accuracy";
  const accuracy = byId("fact-accuracy");
  accuracy.replaceChildren(percent(figures.accuracy, 1));
  if (state.estimate) accuracy.append(make("small", { class: "dim", title: "accuracy of the labels spread from the answers, in nine of ten cases" },
    " (by the answers " + percent(state.estimate.low) + " to " + percent(state.estimate.high) + ")"));
  else if (state.word !== "score") accuracy.append(range(figures.accuracy_low, figures.accuracy_high));
  byId("fact-covered").replaceChildren(percent(figures.covered, 1), state.word === "score" ? "" : range(figures.covered_low, figures.covered_high));
  byId("fact-answers").textContent = state.answers.toLocaleString("en") + (state.pending ? " (" + state.pending + " being taken in …)" : "");
  byId("undo").disabled = !state.can_undo;
  byId("undo").textContent = "Undo" + (state.last ? " " + ({ at_level: "level", update: "new rows" }[state.last] || state.last) : "");
  byId("save").disabled = state.is_saved;
  byId("classes").replaceChildren(...app.choices().map((name) => make("option", { value: name })));
  if (state.problem && state.problem !== facts.said) notice(state.problem, true);
  facts.said = state.problem;
}

let polling = 0;
function poll() {
  clearTimeout(polling);
  polling = setTimeout(async () => {
    try { await app.refresh(); } catch (error) { lost(error); }
  }, 700);
}
function lost(error) {
  notice(error.status ? error.message : "the app does not answer: was it stopped? What was acknowledged is in answers.log", true);
}

function tip(row, x, y, width, height) {
  const node = byId("tip");
  node.hidden = row < 0 || !app.state;
  if (node.hidden) return;
  node.replaceChildren(make("strong", {}, dot(map.labelOf(row)), " " + app.nameOf(map.labelOf(row))), make("div", { class: "dim" }, "…"));
  const put = () => placeTip(node, x, y, width, height);
  put();
  clearTimeout(tip.waiting);
  tip.row = row;
  // A pointer that passes over thousands of points asks for none of them.
  tip.waiting = setTimeout(async () => {
    try {
      const [found] = await (await send("rows", { rows: [row] })).json();
      if (tip.row !== row || node.hidden) return;
      node.replaceChildren(make("strong", {}, dot(found.label), " " + app.nameOf(map.labelOf(row))), make("div", {}, content(found)),
        make("div", { class: "dim" }, "id " + found.id + ", " + app.state.word + " " + percent(found.confidence)));
      put();
    } catch (error) { lost(error); }
  }, 60);
}

// -- levels

async function levels() {
  try {
    const found = await askJson("levels"), own = app.state.figures.n_clusters;
    const numbers = [...new Set([...found.map((l) => l.n_clusters), own])].sort((a, b) => a - b);
    const slider = byId("level");
    slider.max = numbers.length - 1;
    slider.value = numbers.indexOf(own);
    slider.numbers = numbers;
    byId("level-label").hidden = numbers.length < 2;
    levelNumber(own);
  } catch { byId("level-label").hidden = true; }
}
function levelNumber(k) {
  byId("level-number").textContent = k + " clusters";
  byId("level").setAttribute("aria-valuetext", k + " clusters");
  byId("level-use").hidden = k === app.state.figures.n_clusters;
}
let sliding = 0;
byId("level").addEventListener("input", () => {
  const k = byId("level").numbers[byId("level").value];
  levelNumber(k);
  clearTimeout(sliding);
  sliding = setTimeout(async () => {
    try {
      const own = k === app.state.figures.n_clusters;
      const [names, colors] = own ? [null, await askBytes("colors")] : [await askJson("level", { n_clusters: k }), await askBytes("colors", { level: k })];
      if (byId("level").numbers[byId("level").value] !== k) return;
      app.level = names;
      map.setColors(colors, app.state.classes);
    } catch (error) { notice(error.message, true); }
  }, 120);
});
byId("level-use").addEventListener("click", () => {
  const k = byId("level").numbers[byId("level").value];
  app.act({ op: "at_level", n_clusters: k }, k + " clusters now; Undo goes back");
});

// -- actions and keys that hold everywhere

byId("notice").addEventListener("click", () => notice(""));
byId("undo").addEventListener("click", () => app.act({ op: "undo" }, "taken back"));
byId("save").addEventListener("click", async () => {
  notice("saving …");
  await app.act({ op: "save" }, "saved");
});
const tabs = [...document.querySelectorAll("[role=tab]")];
tabs.forEach((tab, at) => {
  tab.addEventListener("click", () => app.openTab(tab.id.slice(4)));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) app.openTab(tabs[(at + step + tabs.length) % tabs.length].id.slice(4));
  });
});
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || !app.state) return;
  const control = event.ctrlKey || event.metaKey;
  if (control && event.key === "s") { event.preventDefault(); if (!byId("save").disabled) byId("save").click(); return; }
  if (control && event.key === "z" && !isTyping(event.target)) { event.preventDefault(); if (!byId("undo").disabled) byId("undo").click(); return; }
  if (control || event.altKey || isTyping(event.target)) return;
  if (event.key === "Escape") { notice(""); map.setLasso(false); map.reset(); clusters.clear(); return; }
  if (label.key(event) || certify.key(event)) return;
  if (event.key === "l") map.setLasso(!map.isLasso);
  else if (event.key === "0") map.reset();
  else if (event.key === "/") { event.preventDefault(); app.openTab("rows", false); byId("search").focus(); }
  else clusters.key(event);
});
window.addEventListener("beforeunload", (event) => { if (app.state && !app.state.is_saved) event.preventDefault(); });

// The map of the last time, until the clusters are loaded.
async function preview() {
  const buffer = await askBytes("preview");
  if (!buffer.byteLength || app.state) return;
  const n = buffer.byteLength / 8, colors = new Uint8Array(7 * n);
  colors.set(new Uint8Array(buffer, 4 * n));
  map.setColors(colors.buffer, []);
  map.setPoints(buffer.slice(0, 4 * n));
}
async function begin() {
  byId("panel").inert = true;  // until there is something to work on
  await preview();
  for (;;) {
    try { await app.refresh(); break; } catch (error) {
      if (!error.loading) { lost(error); return; }
      await new Promise((next) => setTimeout(next, 150));
    }
  }
  byId("panel").inert = false;
  if (app.state.lost.length) notice(app.state.lost.length + " earlier action(s) could not be repeated: " + app.state.lost[0], true);
  // A rough map at once, the one that stays when it is ready.
  map.setPoints(await askBytes("points", { quick: 1 }));
  map.setPoints(await askBytes("points"));
  byId("map-wait").hidden = true;
  app.isLaidOut = true;
  levels();
}
begin().catch(lost);
