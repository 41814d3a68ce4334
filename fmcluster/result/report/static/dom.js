// What the report and the app share: nodes, numbers, colors, files that are made here.

export const byId = (id) => document.getElementById(id);

// Everything from the data becomes a text node or an attribute of an image, never markup.
export function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "background") node.style.background = value;
    else if (key === "width" && tag !== "canvas") node.style.width = value;
    else if (key === "left") node.style.left = value;
    else if (key === "onclick") node.addEventListener("click", value);
    else if (value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}
export function button(text, onclick, attributes) {
  return make("button", { type: "button", onclick, ...attributes }, text);
}
export const percent = (value, digits = 0) => (100 * value).toFixed(digits) + " %";
export const count = (number) => number.toLocaleString("en");
export const rowsWord = (number) => count(number) + (number === 1 ? " row" : " rows");
export const dark = window.matchMedia("(prefers-color-scheme: dark)");
export const hue = (label) => (label * 137.508) % 360;
export const colorOf = (label) =>
  label < 0 ? "hsl(0 0% 55%)" : "hsl(" + hue(label) + " 62% " + (dark.matches ? 62 : 46) + "%)";
export const dot = (label) => make("span", { class: "dot", background: colorOf(label), "aria-hidden": "true" });

// What a row is: a picture, a sound or a text.
export function content(row) {
  if (row.image) return make("img", { src: row.image, alt: "row " + row.id, loading: "lazy" });
  if (row.audio) return make("audio", { src: row.audio, controls: true, preload: "none", "aria-label": "row " + row.id });
  return make("span", {}, row.text === undefined || row.text === "" ? "row " + row.id : row.text);
}
// The tip of a point: beside it, inside the map.
export function placeTip(node, x, y, width, height) {
  node.style.left = Math.max(0, Math.min(x + 14, width - node.offsetWidth - 4)) + "px";
  node.style.top = Math.max(0, Math.min(y + 14, height - node.offsetHeight - 4)) + "px";
}
export const clusterSorts = {
  size: (a, b) => b.size - a.size || a.label - b.label,
  confidence: (a, b) => a.confidence - b.confidence || a.label - b.label,
  name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  label: (a, b) => a.label - b.label,
};

export function download(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
// A leading sign would be run as a formula by spreadsheets.
const cell = (value) => '"' + String(value === undefined || value === null ? "" : value).replace(/^([=+\-@\t\r])/, "'$1").replace(/"/g, '""') + '"';
export function downloadCsv(name, columns, rows) {
  const lines = [columns.join(","), ...rows.map((row) => columns.map((key) => cell(row[key])).join(","))];
  download(name, new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
}
export const isTyping = (target) =>
  target.matches && target.matches("input:not([type=checkbox]):not([type=radio]):not([type=range]), select, textarea");
