// The report: a result that stands still. Its map, lists and tables are all in the page.
import { byId, button, clusterSorts, colorOf, content, count, dark, dot, downloadCsv, isTyping, make, percent, placeTip, rowsWord } from "./dom.js";
import { createMap } from "./map.js";

const data = JSON.parse(byId("data").textContent);
const PAGE = 60;
const total = data.clusters.reduce((sum, cluster) => sum + cluster.size, 0);
const largest = data.clusters.reduce((most, c) => Math.max(most, c.size / total, c.prior), 1e-9);

function unpacked(text, Type) {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  return new Type(bytes.buffer);
}
const rowsOfPage = data.map.id.length;
const own = unpacked(data.map.label, Int32Array);
const confidence = unpacked(data.map.confidence, Uint8Array);
const odd = unpacked(data.map.odd, Uint8Array);
const place = unpacked(data.map.place, Int32Array);
const level = { at: null, labels: own };

const ownName = (label) => label < 0 ? "no cluster" : data.clusters[label].name;
const nameOf = (label) => label < 0 ? "no cluster" : level.at ? level.at.names[label] : ownName(label);

// -- pictures: one sheet has those of the map

const SIDE = 32, columns = Math.ceil(Math.sqrt(place.reduce((most, at) => Math.max(most, at + 1), 0)));
const sheet = data.map.sprite ? Object.assign(new Image(), { src: data.map.sprite }) : null;
function picture(i, shown) {
  const node = make("canvas", { width: SIDE, height: SIDE, role: "img", "aria-label": "row " + data.map.id[i] });
  if (shown) { node.style.width = shown + "px"; node.style.height = shown + "px"; }
  const put = () => node.getContext("2d").drawImage(sheet, (place[i] % columns) * SIDE, Math.floor(place[i] / columns) * SIDE, SIDE, SIDE, 0, 0, SIDE, SIDE);
  if (sheet.complete) put(); else sheet.addEventListener("load", put);
  return node;
}
const hasPicture = (i) => sheet !== null && place[i] >= 0;

// -- rows of lists

function about(row, more) {
  return make("small", {}, dot(row.cluster), " " + ownName(row.cluster) + ", id " + row.id + ", " + data.word + " " + percent(row.confidence) + (more || ""));
}
function example(row) {
  return make("li", { title: "id " + row.id + ", " + data.word + " " + percent(row.confidence) }, content(row), make("small", {}, percent(row.confidence)));
}
function listed(id, rows, more) {
  const node = byId(id), most = 500;
  if (!node) return;
  node.replaceChildren(...rows.slice(0, most).map((row) => make("li", {}, content(row), " ", about(row, more(row)))));
  if (rows.length > most) node.after(make("p", { class: "dim" }, "The first " + most + " of " + count(rows.length) + "; the export has all."));
}
const pageRow = (i) => ({ id: data.map.id[i], cluster: own[i], confidence: confidence[i] / 255, text: data.map.text[i] });

// -- clusters

// The bar is the cluster's share of the rows, the tick its estimated share.
function meter(cluster) {
  const share = cluster.size / total, width = (value) => ((100 * value) / largest).toFixed(2) + "%";
  return make("div", { class: "meter", role: "img", title: "bar: share of the rows; tick: estimated true share",
    "aria-label": percent(share, 2) + " of the rows, estimated true share " + percent(cluster.prior, 2) },
    make("span", { width: width(share), background: colorOf(cluster.label) }),
    make("b", { left: "calc(" + width(cluster.prior) + " - 1px)" }));
}
function link(label) {
  const node = make("a", { href: "#cluster-" + label }, ownName(label));
  node.addEventListener("click", (event) => { event.preventDefault(); open(label); });
  return node;
}
function card(cluster) {
  const node = make("article", { class: "cluster", id: "cluster-" + cluster.label, tabindex: "-1" });
  const parts = [make("span", {}, rowsWord(cluster.size) + " (" + percent(cluster.size / total, 1) + ")"),
    make("span", {}, "mean " + data.word + " " + percent(cluster.confidence))];
  if (cluster.name !== "cluster " + cluster.label) parts.push(make("span", {}, "number " + cluster.label));
  if (cluster.estimate) parts.push(make("span", { class: "estimate" }, cluster.estimate));
  if (cluster.confused.length) {
    const others = make("span", { class: "confused" }, "taken for: ");
    cluster.confused.forEach((other, at) => others.append(at ? ", " : "", link(other.label), " (about " + rowsWord(Math.round(other.rows)) + ")"));
    parts.push(others);
  }
  const kind = "examples " + data.kind;
  node.append(make("header", {}, dot(cluster.label), make("h3", {}, cluster.name),
    button("on the map", () => showCluster(cluster), { "aria-label": "show " + cluster.name + " on the map" })),
    meter(cluster), make("div", { class: "about" }, ...parts),
    make("h4", {}, "most typical"), make("ul", { class: kind }, ...cluster.typical.map(example)));
  if (cluster.unsure.length) node.append(make("h4", {}, "least sure"), make("ul", { class: kind }, ...cluster.unsure.map(example)));
  return node;
}
function matches(cluster, words) {
  if (!words) return true;
  const texts = [cluster.name, ...cluster.typical.concat(cluster.unsure).map((row) => (row.text || "") + " " + row.id)];
  return texts.some((text) => text.toLowerCase().includes(words));
}
let shownCards = PAGE;
function draw() {
  const words = byId("search").value.trim().toLowerCase();
  const found = data.clusters.filter((c) => matches(c, words)).sort(clusterSorts[byId("sort").value]);
  byId("gallery").replaceChildren(...found.slice(0, shownCards).map(card));
  byId("count").textContent = found.length + " of " + data.clusters.length + " clusters";
  byId("more").hidden = found.length <= shownCards;
}
function open(label) {
  byId("search").value = "";
  if (!byId("cluster-" + label)) { shownCards = data.clusters.length; draw(); }
  const node = byId("cluster-" + label);
  if (node) { node.scrollIntoView({ block: "start" }); node.focus(); }
}
byId("search").addEventListener("input", () => { shownCards = PAGE; draw(); });
byId("sort").addEventListener("change", draw);
byId("more").addEventListener("click", () => { shownCards += PAGE; draw(); });
for (const node of document.querySelectorAll("[data-cluster]"))
  node.addEventListener("click", (event) => { event.preventDefault(); open(Number(node.dataset.cluster)); });

// -- the map

function tip(i, x, y, width, height) {
  const node = byId("tip");
  node.hidden = i < 0;
  if (i < 0) return;
  const label = level.labels[i];
  const lines = [make("strong", {}, dot(label), " " + nameOf(label)), make("div", {}, data.map.text[i] || "id " + data.map.id[i]),
    make("div", { class: "dim" }, "id " + data.map.id[i] + ", " + data.word + " " + percent(confidence[i] / 255))];
  if (hasPicture(i)) lines.unshift(picture(i, 96));
  node.replaceChildren(...lines);
  placeTip(node, x, y, width, height);
}
const sizesNow = () => level.at ? level.at.sizes : data.clusters.map((cluster) => cluster.size);
if (odd.length) byId("map-color").append(make("option", { value: "outlier" }, "outlier score"));
if (sheet) {
  byId("map-color").append(make("option", { value: "pictures" }, "pictures"));
  byId("map-color").value = "pictures";
}
const map = createMap({
  nameOf, sizes: sizesNow, onPoint: tip,
  scrolls: () => true,  // until it is zoomed, the wheel goes on scrolling the page
  onOpen: (i) => { if (own[i] >= 0) open(own[i]); },
  onLasso: (found) => chooseRows(found, rowsWord(found.length) + " inside the lasso"),
  pictures: sheet && { image: sheet, places: place, side: SIDE, columns },
});
function showCluster(cluster) {
  setLevel(data.levels.findIndex((each) => each.k === data.clusters.length));
  const found = map.rowsOf(cluster.label).sort((a, b) => confidence[b] - confidence[a]);
  map.reset();
  chooseRows(found, rowsWord(found.length) + " of " + cluster.name + ", most sure first", { onMap: false });
  map.highlight(cluster.label);
  byId("map").scrollIntoView({ block: "center" });
  byId("map").focus({ preventScroll: true });
}
{
  const colors = new Uint8Array(7 * rowsOfPage);
  colors.set(new Uint8Array(own.buffer));
  colors.set(confidence, 4 * rowsOfPage);
  colors.set(odd, 5 * rowsOfPage);
  map.setColors(colors.buffer, []);
  map.setPoints(unpacked(data.map.points, Uint8Array).buffer);
  const parts = { neighbours: "Rows that are alike lie together; how far apart groups lie means little.", pca: "Two linear directions: far apart is unlike, near may be chance.",
    umap: "Laid out by UMAP: rows that are alike lie together; how far apart groups lie means little.", clusters: "Neither embeddings nor neighbors are at hand: rows lie by cluster alone." };
  const isSample = rowsOfPage < data.map.total;
  byId("map-about").textContent = parts[data.map.method] + (isSample ? " This page holds " + count(rowsOfPage) + " of the " + count(data.map.total) + " rows, drawn evenly at random: map, search and lasso are of these; sizes and lists are of all." : "");
}

// -- rows that were chosen: by words, a lasso, a cluster

const chosen = { rows: [], shown: 0 };
function chooseRows(rows, title, { onMap = true, names = [] } = {}) {
  chosen.rows = rows; chosen.shown = 0;
  if (onMap) map.choose(rows.length ? rows : null);
  byId("work").classList.add("open");
  byId("rows-panel").hidden = false;
  byId("rows-title").textContent = title;
  const named = byId("rows-names");
  named.hidden = !names.length;
  named.replaceChildren("Clusters of that name: ");
  names.forEach((label, at) => named.append(at ? ", " : "", link(label)));
  byId("rows").replaceChildren();
  byId("rows").classList.toggle("gallery", sheet !== null);
  byId("rows-export").disabled = !rows.length;
  moreRows();
}
function moreRows() {
  const part = chosen.rows.slice(chosen.shown, chosen.shown + PAGE);
  byId("rows").append(...part.map((i) => {
    const row = pageRow(i);
    const item = make("li", { title: ownName(row.cluster) + ", id " + row.id }, hasPicture(i) ? picture(i) : content(row));
    if (sheet) item.append(make("small", {}, dot(row.cluster), " " + row.id)); else item.append(about(row));
    return item;
  }));
  chosen.shown += part.length;
  byId("rows-more").hidden = chosen.shown >= chosen.rows.length;
}
function closeRows() {
  byId("work").classList.remove("open");
  byId("rows-panel").hidden = true;
  byId("find").value = "";
  chosen.rows = [];
  map.reset();
}
byId("rows-more").addEventListener("click", moreRows);
byId("rows-close").addEventListener("click", () => { closeRows(); byId("map").focus({ preventScroll: true }); });
byId("rows-export").addEventListener("click", () => {
  const columns = ["id", "cluster", "name", data.word], at = level.at, text = data.map.cut ? "text_start" : "text";
  if (at) columns.push("cluster_of_" + at.k, "name_of_" + at.k);
  if (data.kind === "text") columns.push(text);
  downloadCsv("rows.csv", columns, chosen.rows.map((i) => ({
    id: data.map.id[i], cluster: own[i], name: own[i] < 0 ? "" : ownName(own[i]), [data.word]: (confidence[i] / 255).toFixed(2), [text]: data.map.text[i],
    ...(at ? { ["cluster_of_" + at.k]: level.labels[i], ["name_of_" + at.k]: nameOf(level.labels[i]) } : {}) })));
});

let lower = null;
function find(words) {
  lower = lower || data.map.text.map((text) => text.toLowerCase());
  const parts = words.split(/\s+/), exact = [], begun = [], said = [];
  for (let i = 0; i < rowsOfPage; i++) {
    const id = data.map.id[i].toLowerCase();
    if (id === words) exact.push(i);
    else if (id.startsWith(words)) begun.push(i);
    else if (lower.length && parts.every((part) => lower[i].includes(part))) said.push(i);
  }
  return [...exact, ...begun, ...said];
}
let finding = 0;
byId("find").addEventListener("input", () => {
  clearTimeout(finding);
  // While somebody types, fifty thousand texts are not gone through for every letter.
  finding = setTimeout(() => {
    const typed = byId("find").value.trim(), words = typed.toLowerCase();
    if (!words) { closeRows(); return; }
    const rows = find(words), names = data.clusters.filter((c) => c.name.toLowerCase().includes(words)).map((c) => c.label);
    chooseRows(rows, rowsWord(rows.length) + " with “" + typed + "”" + (data.map.cut ? " in the first " + count(data.map.cut) + " characters" : ""), { names });
  }, 120);
});

// -- levels

function setLevel(at) {
  if (at < 0) return;
  const found = data.levels[at], isOwn = found.k === data.clusters.length;
  byId("level").value = at;
  byId("level-number").textContent = found.k + " clusters" + (isOwn ? "" : ", mean " + data.word + " " + percent(found.confidence));
  byId("level").setAttribute("aria-valuetext", found.k + " clusters");
  if (isOwn ? !level.at : level.at === found) return;
  level.at = isOwn ? null : found;
  level.labels = isOwn ? own : found.labels || (found.labels = found.of ? own.map((label) => label < 0 ? -1 : found.of[label]) : unpacked(found.label, Int32Array));
  map.setLabels(level.labels);
}
if (data.levels.length) {
  byId("level").max = data.levels.length - 1;
  byId("level-label").hidden = false;
  setLevel(data.levels.findIndex((each) => each.k === data.clusters.length));
  byId("level").addEventListener("input", () => setLevel(Number(byId("level").value)));
}

// -- clusters taken for one another, rows unlike all others, near-duplicates

function pairCard(title, tags, rows) {
  return make("article", { class: "pair" }, make("header", {}, title, ...tags),
    make("ul", { class: "rows " + data.kind }, ...rows));
}
function drawConfused() {
  if (!byId("confused")) return;
  byId("confused").replaceChildren(...data.confusions.map((pair) => pairCard(
    make("h3", {}, dot(pair.a), " ", link(pair.a), " and ", dot(pair.b), " ", link(pair.b)),
    [make("small", {}, "about " + rowsWord(Math.max(1, Math.round(pair.rows)))), pair.may_be_one ? make("span", { class: "tag" }, "may be one") : null],
    pair.between.map((row) => make("li", {}, content(row), about(row))))));
}
function drawDoubles() {
  if (!byId("doubles")) return;
  const { rows, groups, pairs } = data.duplicates;
  byId("doubles-about").textContent = rowsWord(rows) + " are all but the same as another one (cosine " + data.duplicates.cosine + " or more), in " + count(groups) + (groups === 1 ? " group" : " groups") + ": one of a group says as much as all of it." +
    (groups > pairs.length ? " A pair of each of the " + pairs.length + " tightest groups is shown." : "") + (data.duplicates.table.length < rows ? " The export has the first " + count(data.duplicates.table.length) + "." : "");
  byId("doubles").replaceChildren(...pairs.map((pair) => pairCard(
    make("h3", {}, "cosine " + pair.similarity.toFixed(3)),
    [pair.alike > 2 ? make("small", {}, pair.alike + " rows alike") : null, pair.rows[0].cluster !== pair.rows[1].cluster ? make("span", { class: "tag" }, "in two clusters") : null],
    pair.rows.map((row) => make("li", {}, content(row), about(row))))));
}
function drawLists() {
  if (byId("outliers")) byId("outliers-about").textContent = "Rows whose neighbors are far away for the place where they lie, the least alike first" + (data.n_outliers > data.outliers.length ? ": " + data.outliers.length + " of " + count(data.n_outliers) : "") + ". About one row in a hundred is named even where all is well.";
  listed("outliers", data.outliers, (row) => ", outlier score " + row.odd.toFixed(3));
  listed("to-label", data.to_label, () => "");
  listed("issues", data.issues, (row) => ", given " + row.given + ", suggested " + row.suggested + ", score " + row.score);
}
function exportsAs(id, name, columns, rows) {
  if (byId(id)) byId(id).addEventListener("click", () => downloadCsv(name, columns, rows.map((row) => ({ ...row, outlier_score: row.odd }))));
}
exportsAs("export-label", "to_label.csv", ["id", "cluster", "confidence", "text"], data.to_label);
exportsAs("export-issues", "label_issues.csv", ["id", "given", "suggested", "score", "text"], data.issues);
exportsAs("export-outliers", "outliers.csv", ["id", "cluster", "confidence", "outlier_score", "text"], data.outliers);
exportsAs("export-doubles", "near_duplicates.csv", ["id", "group", "nearest", "similarity"],
  data.duplicates.table.map(([id, group, nearest, similarity]) => ({ id, group, nearest, similarity })));
if (byId("outliers-show")) byId("outliers-show").addEventListener("click", () => {
  const wanted = new Set(data.outliers.map((row) => row.id)), rows = [];
  data.map.id.forEach((id, i) => { if (wanted.has(id)) rows.push(i); });
  chooseRows(rows, rowsWord(rows.length) + " unlike all others");
  byId("map").scrollIntoView({ block: "center" });
});

function drawAll() { draw(); drawConfused(); drawDoubles(); drawLists(); }
drawAll();
dark.addEventListener("change", drawAll);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  if (event.key === "Escape") { if (map.isLasso) map.setLasso(false); else closeRows(); }
  else if (event.key === "l") map.setLasso(!map.isLasso);
  else if (event.key === "0") map.reset();
  else if (event.key === "/") { event.preventDefault(); byId("find").focus(); }
});
