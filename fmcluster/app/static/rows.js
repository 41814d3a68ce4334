// A list of rows, from a search, a lasso, a cluster or a row: looked at, moved, labeled, exported.
import { askJson, button, byId, download, notice, rowItem, send } from "./ui.js";

const PAGE = 50;

export function createRows(app) {
  let all = [], shown = 0, title = "", extra = new Map();

  function like(row) { return button("like this", () => similar(row.row), { "aria-label": "rows like " + row.id }); }
  async function more() {
    const part = all.slice(shown, shown + PAGE);
    if (part.length) {
      const found = await (await send("rows", { rows: part })).json();
      byId("rows").classList.toggle("gallery", app.state.kind === "image");
      byId("rows").append(...found.map((row) => rowItem({ ...row, ...extra.get(row.row) }, app.nameOf, app.state.word, like(row))));
    }
    shown += part.length;
    byId("rows-more").hidden = shown >= all.length;
    byId("rows-actions").hidden = !all.length;
    byId("rows-note").textContent = title + (all.length > shown ? ", the first " + shown + " shown" : "");
  }
  async function showAll(rows, about, { onMap = true, similarity = new Map() } = {}) {
    all = rows; shown = 0; title = about; extra = similarity;
    byId("rows").replaceChildren();
    app.openTab("rows", false);
    if (onMap) app.map.choose(rows.length ? rows : null);
    try { await more(); } catch (error) { notice(error.message, true); }
  }
  async function similar(row) {
    try {
      const found = await askJson("similar", { row });
      const cosine = new Map(found.map((each) => [each.row, { similarity: each.similarity }]));
      await showAll(found.map((each) => each.row), "rows like " + found[0].id + ", nearest first", { similarity: cosine });
    } catch (error) { notice(error.message, true); }
  }
  byId("search-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const words = byId("search").value.trim();
    if (!words) return;
    try {
      const found = await askJson("search", { words });
      const named = app.clusters.filter((c) => c.name.toLowerCase().includes(words.toLowerCase())).map((c) => c.name);
      await showAll(found.rows, found.rows.length.toLocaleString("en") + " rows with “" + words + "”" + (named.length ? "; clusters of that name: " + named.join("; ") : ""));
    } catch (error) { notice(error.message, true); }
  });
  for (const [name, about] of [["outliers", "unlike all others, the least alike first"], ["answered", "that were labeled, the last first"]])
    byId(name).addEventListener("click", async () => {
      try {
        const found = await askJson(name);
        await showAll(found.rows, found.rows.length.toLocaleString("en") + " rows " + about);
      } catch (error) { notice(error.message, true); }
    });
  byId("rows-more").addEventListener("click", () => more().catch((error) => notice(error.message, true)));
  byId("rows-clear").addEventListener("click", () => { showAll([], "nothing chosen"); });
  byId("move-form").addEventListener("submit", (event) => {
    event.preventDefault();
    app.act({ op: "move", rows: all, cluster: Number(byId("move-to").value) }, all.length + " rows moved");
  });
  byId("rows-label-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const name = byId("rows-label").value.trim();
    if (name && await app.act({ op: "label", rows: all, label: name }, all.length + " rows labeled " + name)) byId("rows-label").value = "";
  });
  byId("export").addEventListener("click", async () => {
    try { download("rows.csv", await (await send("table", { rows: all })).blob()); } catch (error) { notice(error.message, true); }
  });

  return {
    showAll, similar,
    async showCluster(cluster) { await showAll(app.map.rowsOf(cluster.label).sort((a, b) => app.map.confidenceOf(b) - app.map.confidenceOf(a)), cluster.size.toLocaleString("en") + " rows of " + cluster.name + ", most sure first", { onMap: false }); },
    // The clusters of the rows may be others now.
    async refresh() {
      if (!all.length) return;
      const count = shown;
      shown = 0;
      const found = await (await send("rows", { rows: all.slice(0, Math.min(count, 200)) })).json();
      byId("rows").replaceChildren(...found.map((row) => rowItem({ ...row, ...extra.get(row.row) }, app.nameOf, app.state.word, like(row))));
      shown = found.length;
      byId("rows-more").hidden = shown >= all.length;
    },
    get all() { return all; },
  };
}
