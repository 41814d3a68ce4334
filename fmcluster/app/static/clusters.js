// The list of clusters: choose some, then merge, split, rename, dissolve; open one's rows.
import { button, byId, clusterSorts, colorOf, content, dark, dot, make, percent, rowsWord } from "./ui.js";

export function createClusters(app) {
  const chosen = new Set();
  const list = () => [...chosen].sort((a, b) => a - b);

  function item(cluster) {
    const largest = Math.max(1, ...app.clusters.map((c) => c.size));
    const box = make("input", { type: "checkbox", id: "choose-" + cluster.label, checked: chosen.has(cluster.label) });
    const node = make("li", { class: "cluster", "data-label": cluster.label },
      make("div", { class: "head" }, make("label", {}, box, dot(cluster.label), cluster.name),
        button("rows", () => open(cluster), { "aria-label": "show the rows of " + cluster.name }),
        button("on the map", () => app.map.highlight(cluster.label), { "aria-label": "show " + cluster.name + " on the map" })),
      make("div", { class: "meter", "aria-hidden": "true" }, make("span", { width: (100 * cluster.size) / largest + "%", background: colorOf(cluster.label) })),
      make("div", { class: "about" }, make("span", {}, cluster.size.toLocaleString("en") + " rows, " + percent(cluster.size / app.state.rows, 1)),
        make("span", {}, "mean " + app.state.word + " " + percent(cluster.confidence)), make("span", {}, "number " + cluster.label)));
    const picture = cluster.examples.some((row) => row.image);
    const examples = cluster.examples.filter((row) => row.image || row.audio || row.text !== undefined);
    if (examples.length) node.append(make("ul", { class: "examples" + (picture ? " image" : ""), "aria-label": "most typical rows" },
      ...examples.map((row) => make("li", {}, content(row)))));
    for (const other of cluster.confused) {
      const name = app.nameOf(other.label);
      node.append(make("div", { class: "about" }, make("span", {}, "taken for " + name + " (about " + rowsWord(Math.max(1, Math.round(other.rows))) + ")" + (other.may_be_one ? ": may be one" : "")),
        button("choose both", () => both(cluster.label, other.label), { "aria-label": "choose " + cluster.name + " and " + name })));
    }
    node.classList.toggle("chosen", chosen.has(cluster.label));
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(cluster.label); else chosen.delete(cluster.label);
      node.classList.toggle("chosen", box.checked);
      buttons();
    });
    return node;
  }
  function both(a, b) { chosen.clear(); chosen.add(a); chosen.add(b); draw(); byId("merge").focus(); }
  function draw() {
    const words = byId("cluster-search").value.trim().toLowerCase();
    const found = app.clusters.filter((c) => c.name.toLowerCase().includes(words) || String(c.label) === words);
    byId("clusters").replaceChildren(...found.sort(clusterSorts[byId("sort").value]).map(item));
    byId("move-to").replaceChildren(...app.clusters.slice().sort(clusterSorts.name).map((c) => make("option", { value: c.label }, c.name)));
    buttons();
  }
  function buttons() {
    const one = chosen.size === 1;
    byId("merge").disabled = chosen.size < 2;
    for (const id of ["split", "rename", "dissolve"]) byId(id).disabled = !one;
    byId("chosen-note").textContent = chosen.size ? chosen.size + " chosen" : "choose clusters to change them";
    if (!one) byId("name-form").hidden = true;
  }
  function open(cluster) {
    app.map.highlight(cluster.label);
    app.rows.showCluster(cluster);
  }
  async function done(body, said) {
    await app.act(body, said);
  }
  byId("cluster-search").addEventListener("input", draw);
  byId("sort").addEventListener("change", draw);
  byId("merge").addEventListener("click", () => done({ op: "merge", clusters: list() }, "merged"));
  byId("split").addEventListener("click", () => done({ op: "split", cluster: list()[0], into: 2 }, "split in two"));
  byId("dissolve").addEventListener("click", () => done({ op: "dissolve", cluster: list()[0] }, "dissolved"));
  byId("rename").addEventListener("click", () => {
    byId("name-form").hidden = false;
    byId("name-input").value = app.clusters[list()[0]].name;
    byId("name-input").select();
  });
  byId("name-cancel").addEventListener("click", () => { byId("name-form").hidden = true; byId("rename").focus(); });
  byId("name-form").addEventListener("submit", (event) => {
    event.preventDefault();
    done({ op: "rename", cluster: list()[0], name: byId("name-input").value.trim() }, "renamed");
  });
  dark.addEventListener("change", draw);

  const keys = { m: "merge", s: "split", r: "rename", d: "dissolve" };
  return {
    // Of other clusters than were chosen, no number is right.
    clear() { chosen.clear(); byId("name-form").hidden = true; draw(); },
    key(event) {
      const id = keys[event.key];
      if (!id || byId(id).disabled || byId("panel-clusters").hidden) return;
      event.preventDefault();
      byId(id).click();
    },
  };
}
