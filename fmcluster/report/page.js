"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const PAGE = 60;
  let shown = PAGE;

  // Everything from the data becomes a text node or an attribute of an image, never markup.
  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    for (const child of children) if (child !== null) node.append(child);
    return node;
  }
  const percent = (value) => (100 * value).toFixed(0) + " %";
  const hue = (label) => (label * 137.508) % 360;
  const colourOf = (label) => "hsl(" + hue(label) + " 65% 52%)";

  function example(row) {
    const item = make("li", { title: "id " + row.id + ", " + data.word + " " + percent(row.confidence) });
    if (row.image) item.append(make("img", { src: row.image, alt: "row " + row.id, loading: "lazy" }));
    else item.append(row.text === undefined ? "row " + row.id : row.text + " ");
    item.append(make("small", {}, percent(row.confidence)));
    return item;
  }

  function card(cluster) {
    const node = make("article", { class: "cluster", id: "cluster-" + cluster.label, tabindex: "-1" });
    node.append(make("h3", {}, make("span", { class: "dot", style: "background:" + colourOf(cluster.label) }), cluster.name));
    const about = make("div", { class: "about" },
      make("span", {}, cluster.size.toLocaleString() + " rows"),
      make("span", {}, "estimated share " + (100 * cluster.prior).toFixed(2) + " %"),
      make("span", {}, "mean " + data.word + " " + percent(cluster.confidence)));
    if (cluster.nearest !== null) {
      const link = make("a", { href: "#cluster-" + cluster.nearest }, data.clusters[cluster.nearest].name);
      link.addEventListener("click", (event) => { event.preventDefault(); open(cluster.nearest); });
      about.append(make("span", {}, "nearest: ", link));
    }
    node.append(about);
    const kind = "examples " + (data.kind === "image" ? "image" : "text");
    node.append(make("h4", {}, "most typical"), make("ul", { class: kind }, ...cluster.typical.map(example)));
    if (cluster.unsure.length) node.append(make("h4", {}, "least sure"), make("ul", { class: kind }, ...cluster.unsure.map(example)));
    return node;
  }

  const sorts = {
    size: (a, b) => b.size - a.size || a.label - b.label,
    confidence: (a, b) => a.confidence - b.confidence,
    name: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
    label: (a, b) => a.label - b.label,
  };
  function matches(cluster, words) {
    if (!words) return true;
    const texts = [cluster.name, ...cluster.typical.concat(cluster.unsure).map((row) => (row.text || "") + " " + row.id)];
    return texts.some((text) => text.toLowerCase().includes(words));
  }
  function draw() {
    const words = byId("search").value.trim().toLowerCase();
    const found = data.clusters.filter((c) => matches(c, words)).sort(sorts[byId("sort").value]);
    byId("gallery").replaceChildren(...found.slice(0, shown).map(card));
    byId("count").textContent = found.length + " of " + data.clusters.length + " clusters";
    byId("more").hidden = found.length <= shown;
  }
  function open(label) {
    byId("search").value = "";
    if (!byId("cluster-" + label)) { shown = data.clusters.length; draw(); }
    const node = byId("cluster-" + label);
    if (node) { node.scrollIntoView({ block: "start" }); node.focus(); }
  }
  byId("search").addEventListener("input", () => { shown = PAGE; draw(); });
  byId("sort").addEventListener("change", draw);
  byId("more").addEventListener("click", () => { shown += PAGE; draw(); });
  draw();

  function listed(id, rows, extra) {
    const node = byId(id);
    if (!node) return;
    node.replaceChildren(...rows.slice(0, 500).map((row) => {
      const item = example(row);
      item.append(" ", make("span", { class: "dim" }, "id " + row.id + extra(row)));
      return item;
    }));
  }
  listed("to-label", data.to_label, (row) => ", " + data.clusters[row.cluster].name);
  listed("issues", data.issues, (row) => ", given " + row.given + ", suggested " + row.suggested + ", score " + row.score);

  function exportCsv(button, name, columns, rows) {
    if (!byId(button)) return;
    // A leading sign would be run as a formula by spreadsheets.
    const cell = (value) => '"' + String(value === undefined ? "" : value).replace(/^([=+\-@\t\r])/, "'$1").replace(/"/g, '""') + '"';
    byId(button).addEventListener("click", () => {
      const lines = [columns.join(","), ...rows.map((row) => columns.map((key) => cell(row[key])).join(","))];
      const link = make("a", { href: URL.createObjectURL(new Blob([lines.join("\n")], { type: "text/csv" })), download: name });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
  exportCsv("export-label", "to_label.csv", ["id", "cluster", "confidence", "text"], data.to_label);
  exportCsv("export-issues", "label_issues.csv", ["id", "given", "suggested", "score", "text"], data.issues);

  const canvas = byId("map");
  if (!canvas) return;
  const map = data.map, tip = byId("tip"), context = canvas.getContext("2d");
  const sprite = map.sprite ? Object.assign(new Image(), { src: map.sprite }) : null;
  const SIDE = 24, columns = Math.ceil(Math.sqrt(map.x.length));
  let width = 0, height = 0, active = -1;
  const px = (i) => 12 + (map.x[i] / 1000) * (width - 24);
  const py = (i) => height - 12 - (map.y[i] / 1000) * (height - 24);
  const colours = {
    label: (i) => colourOf(map.label[i]),
    confidence: (i) => "hsl(" + (1.2 * map.confidence[i]) + " 70% 45%)",
  };
  function paint() {
    const ratio = window.devicePixelRatio || 1;
    width = canvas.clientWidth; height = canvas.clientHeight;
    canvas.width = width * ratio; canvas.height = height * ratio;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const colour = colours[byId("map-colour").value], size = map.x.length > 5000 ? 2 : 3.4;
    for (let i = 0; i < map.x.length; i++) {
      context.fillStyle = colour(i);
      context.fillRect(px(i) - size / 2, py(i) - size / 2, size, size);
    }
    if (active >= 0) {
      context.strokeStyle = getComputedStyle(document.body).color;
      context.lineWidth = 2;
      context.strokeRect(px(active) - 5, py(active) - 5, 10, 10);
    }
  }
  function point(i) {
    active = i;
    paint();
    if (i < 0) { tip.hidden = true; return; }
    const lines = [make("strong", {}, data.clusters[map.label[i]].name), make("div", {}, map.text[i] || "id " + map.id[i]),
      make("div", { class: "dim" }, "id " + map.id[i] + ", " + data.word + " " + map.confidence[i] + " %")];
    if (sprite && sprite.complete) {
      const picture = make("canvas", { width: SIDE, height: SIDE, style: "width:84px;height:84px" });
      picture.getContext("2d").drawImage(sprite, (i % columns) * SIDE, Math.floor(i / columns) * SIDE, SIDE, SIDE, 0, 0, SIDE, SIDE);
      lines.unshift(picture);
    }
    tip.replaceChildren(...lines);
    tip.hidden = false;
    tip.style.left = Math.min(px(i) + 14, Math.max(0, width - 350)) + "px";
    tip.style.top = Math.min(py(i) + 14, height - 60) + "px";
  }
  canvas.addEventListener("mousemove", (event) => {
    let best = -1, nearest = 144;
    for (let i = 0; i < map.x.length; i++) {
      const d = (px(i) - event.offsetX) ** 2 + (py(i) - event.offsetY) ** 2;
      if (d < nearest) { nearest = d; best = i; }
    }
    if (best !== active) point(best);
  });
  canvas.addEventListener("mouseleave", () => point(-1));
  canvas.addEventListener("click", () => { if (active >= 0) open(map.label[active]); });
  const order = map.x.map((_, i) => i).sort((a, b) => map.x[a] - map.x[b]);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) { event.preventDefault(); point(order[(order.indexOf(active) + step + order.length) % order.length]); }
    else if (event.key === "Enter" && active >= 0) open(map.label[active]);
    else if (event.key === "Escape") point(-1);
  });
  byId("map-colour").addEventListener("change", paint);
  byId("map-note").textContent = map.x.length.toLocaleString() + " rows shown";
  window.addEventListener("resize", paint);
  paint();
})();
