// New rows: a table, pictures or recordings, dropped on the page or chosen, taken in by the run's own encoder.
import { askJson, byId, make, notice, send, sendFile } from "./ui.js";

const size = (bytes) => bytes < 1e6 ? Math.max(1, Math.round(bytes / 1e3)) + " kB" : (bytes / 1e6).toFixed(1) + " MB";

export function createDrop(app) {
  let batch = "", files = [], busy = false, depth = 0;

  // Of a table the first line names the columns: they are proposed, the server reads the table.
  async function columns(file) {
    if (!/\.(csv|tsv)$/i.test(file.name)) return [];
    const line = (await file.slice(0, 20000).text()).split(/\r?\n/)[0], signs = ["\t", ";", ","];
    const sign = signs.find((each) => line.includes(each)) || ",";
    return line.split(sign).map((name) => name.trim().replace(/^"|"$/g, "")).filter((name) => name);
  }
  function close() { batch = ""; files = []; byId("add-form").hidden = true; byId("add-file").value = ""; }
  async function offer(given) {
    const { reason, files: endings } = app.state.takes;
    if (busy) return;
    if (reason) { notice(reason, true); return; }
    const wrong = given.filter((file) => !endings.some((ending) => file.name.toLowerCase().endsWith(ending)));
    if (!given.length) { notice("drop files: a folder is taken by fmcluster update", true); return; }
    if (wrong.length) { notice("“" + wrong[0].name + "” is no file that this run takes: " + endings.join(" "), true); return; }
    if (batch) await cancel();
    files = given;
    const table = endings.includes(".csv");
    if (table && given.length > 1) { notice("drop one table at a time", true); return; }
    const names = table ? await columns(given[0]) : [];
    byId("add-columns").replaceChildren(...names.map((name) => make("option", { value: name })));
    byId("add-what").textContent = given.length === 1 ? given[0].name + ", " + size(given[0].size) : given.length + " files, " + size(given.reduce((sum, file) => sum + file.size, 0));
    byId("add-table").hidden = !table;
    byId("add-form").hidden = false;
    app.openTab("rows", false);
    byId("add-take").focus();
  }
  async function take() {
    if (busy) return;
    busy = true;
    byId("add-take").disabled = true;
    try {
      for (const [at, file] of batch ? [] : files.entries()) {
        notice("copying " + (at + 1) + " of " + files.length + " …");
        batch = (await sendFile(file, batch)).batch;
      }
      notice("the new rows are being encoded and taken in …", false, true);
      const body = { op: "update", batch, column: byId("add-column").value.trim(), id_column: byId("add-ids").value.trim(), new_clusters: byId("add-clusters").checked ? "auto" : "" };
      const { added, ...state } = await (await send("act", body)).json();
      close();
      await app.take(state);
      await show(added);
    } catch (error) {
      notice(error.message, true);
    } finally { busy = false; byId("add-take").disabled = false; }
  }
  // Novel rows first: they are why somebody looks.
  async function show(added) {
    const found = await askJson("added", { first: added.first });
    const left = added.left_out ? "; " + added.left_out.toLocaleString("en") + " were left out (known, or not to be read)" : "";
    const told = added.rows.toLocaleString("en") + (added.rows === 1 ? " new row, " : " new rows, ") + (added.novel ? added.novel.toLocaleString("en") + " of them in no cluster (shown first)" : "all in a cluster") + left;
    notice(told);
    await app.rows.showAll(found.rows, told);
  }
  async function cancel() {
    try { if (batch) await send("discard", { batch }); } catch (error) { notice(error.message, true); }
    close();
  }

  byId("add").addEventListener("click", () => { if (app.state.takes.reason) notice(app.state.takes.reason, true); else byId("add-file").click(); });
  byId("add-file").addEventListener("change", () => offer([...byId("add-file").files]));
  byId("add-form").addEventListener("submit", (event) => { event.preventDefault(); take(); });
  byId("add-cancel").addEventListener("click", cancel);
  const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes("Files");
  const cover = (on) => { byId("drop").hidden = !on; if (!on) depth = 0; };
  document.addEventListener("dragenter", (event) => { if (hasFiles(event) && app.state) { depth += 1; cover(true); } });
  document.addEventListener("dragleave", (event) => { if (hasFiles(event)) { depth -= 1; if (depth <= 0) cover(false); } });
  document.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();  // else the browser would leave the page for the file
    cover(false);
    if (!app.state) return;
    offer([...event.dataTransfer.items].filter((item) => item.kind === "file" && !item.webkitGetAsEntry?.()?.isDirectory).map((item) => item.getAsFile()));
  });
  return { offer };
}
