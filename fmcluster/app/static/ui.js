// What the parts of the app share: asking the server, notices, one row of a list. The rest is the
// report's, too: dom.js.
import { byId, content, dot, make, percent } from "./dom.js";

export { button, byId, clusterSorts, colorOf, content, dark, dot, download, isTyping, make, percent, placeTip, rowsWord } from "./dom.js";

const token = new URLSearchParams(location.search).get("token") || "";

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

// A file goes as it is; its batch is made with the first one.
export async function sendFile(file, batch) {
  const query = new URLSearchParams({ name: file.name, ...(batch ? { batch } : {}) });
  const answer = await answered(await fetch("/api/file?" + query, {
    method: "POST", body: file,
    headers: { "X-Fmcluster-Token": token, "Content-Type": "application/octet-stream" },
  }));
  return answer.json();
}

let hiding = 0;
export function notice(text, bad = false, stays = false) {
  clearTimeout(hiding);
  const node = byId("notice");
  node.textContent = text;
  node.className = bad ? "bad" : "";
  node.hidden = !text;
  if (text && !bad && !stays) hiding = setTimeout(() => { node.hidden = true; }, 6000);
}

// One row of a list: its text or picture, where it is, and what can be done with it.
export function rowItem(row, nameOf, word, ...buttons) {
  const what = make("span", { class: "what" }, content(row));
  const near = row.similarity === undefined ? "" : ", cosine " + row.similarity.toFixed(2);
  what.append(make("small", {}, dot(row.label), " " + nameOf(row.label) + ", id " + row.id + ", " + word + " " + percent(row.confidence) + near));
  return make("li", { class: "row", "data-id": row.id }, what, ...buttons);
}
