// What all parts of the page share: nodes, numbers, colors, and asking the server.

export const byId = (id) => document.getElementById(id);
const token = new URLSearchParams(location.search).get("token") || "";

// Everything from the data becomes a text node or an attribute of an image, never markup.
export function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key === "background") node.style.background = value;
    else if (key === "width") node.style.width = value;
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
export const dark = window.matchMedia("(prefers-color-scheme: dark)");
export const hue = (label) => (label * 137.508) % 360;
export const colorOf = (label) =>
  label < 0 ? "hsl(0 0% 55%)" : "hsl(" + hue(label) + " 62% " + (dark.matches ? 62 : 46) + "%)";
export const dot = (label) => make("span", { class: "dot", background: colorOf(label), "aria-hidden": "true" });

export class Refused extends Error {
  constructor(message, status, loading) { super(message); this.status = status; this.loading = loading; }
}
async function answered(response) {
  if (response.ok) return response;
  let text = response.statusText, loading = false;
  const body = await response.text();
  try { const told = JSON.parse(body); text = told.error; loading = told.loading; } catch { text = body || text; }
  throw new Refused(text, response.status, loading);
}
export async function ask(name, query) {
  const address = "/api/" + name + (query ? "?" + new URLSearchParams(query) : "");
  return answered(await fetch(address, { headers: { "X-Fmcluster-Token": token } }));
}
export const askJson = async (name, query) => (await ask(name, query)).json();
export const askBytes = async (name, query) => (await ask(name, query)).arrayBuffer();
export async function send(name, body) {
  return answered(await fetch("/api/" + name, {
    method: "POST", body: JSON.stringify(body),
    headers: { "X-Fmcluster-Token": token, "Content-Type": "application/json" },
  }));
}

let hiding = 0;
export function notice(text, bad = false) {
  clearTimeout(hiding);
  const node = byId("notice");
  node.textContent = text;
  node.className = bad ? "bad" : "";
  node.hidden = !text;
  if (text && !bad) hiding = setTimeout(() => { node.hidden = true; }, 6000);
}

// One row of a list: its text or picture, where it is, and what can be done with it.
export function rowItem(row, nameOf, word, ...buttons) {
  const what = make("span", { class: "what" });
  if (row.image) what.append(make("img", { src: row.image, alt: "row " + row.id }));
  else what.append(row.text === undefined ? "row " + row.id : row.text);
  const near = row.similarity === undefined ? "" : ", cosine " + row.similarity.toFixed(2);
  what.append(make("small", {}, dot(row.label), " " + nameOf(row.label) + ", id " + row.id + ", " + word + " " + percent(row.confidence) + near));
  return make("li", { class: "row", "data-id": row.id }, what, ...buttons);
}
export function download(name, blob) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
export const isTyping = (target) =>
  target.matches && target.matches("input:not([type=checkbox]):not([type=radio]):not([type=range]), select, textarea");
