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
  const style = getComputedStyle(document.documentElement);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colourOf = (label) => label < 0 ? "hsl(0 0% 55%)" : "hsl(" + hue(label) + " 62% " + style.getPropertyValue("--light") + ")";
  const nameOf = (label) => label < 0 ? "no cluster" : data.clusters[label].name;
  const total = data.clusters.reduce((sum, cluster) => sum + cluster.size, 0);
  const largest = data.clusters.reduce((most, c) => Math.max(most, c.size / total, c.prior), 1e-9);
  let showOnMap = null, chosen = -1;

  function example(row) {
    const item = make("li", { title: "id " + row.id + ", " + data.word + " " + percent(row.confidence) });
    if (row.image) item.append(make("img", { src: row.image, alt: "row " + row.id, loading: "lazy" }));
    else item.append(make("span", {}, row.text === undefined ? "row " + row.id : row.text));
    item.append(make("small", {}, percent(row.confidence)));
    return item;
  }

  // The bar is the cluster's share of the rows, the tick its estimated share.
  function meter(cluster) {
    const share = cluster.size / total, width = (value) => (100 * value / largest).toFixed(2) + "%";
    return make("div", { class: "meter", role: "img", title: "bar: share of the rows, tick: estimated share",
      "aria-label": (100 * share).toFixed(2) + " % of the rows, estimated " + (100 * cluster.prior).toFixed(2) + " %" },
      make("span", { style: "width:" + width(share) + ";background:" + colourOf(cluster.label) }),
      make("b", { style: "left:calc(" + width(cluster.prior) + " - 1px)" }));
  }

  function card(cluster) {
    const node = make("article", { class: "cluster", id: "cluster-" + cluster.label, tabindex: "-1" });
    const head = make("header", {}, make("span", { class: "dot", style: "background:" + colourOf(cluster.label) }), make("h3", {}, cluster.name));
    if (showOnMap) {
      const button = make("button", { type: "button", "aria-label": "show " + cluster.name + " on the map" }, "on the map");
      button.addEventListener("click", () => showOnMap(cluster.label));
      head.append(button);
    }
    const about = make("div", { class: "about" },
      make("span", {}, cluster.size.toLocaleString() + " rows (" + (100 * cluster.size / total).toFixed(1) + " %, estimated " + (100 * cluster.prior).toFixed(1) + " %)"),
      make("span", {}, "mean " + data.word + " " + percent(cluster.confidence)));
    if (cluster.nearest !== null) {
      const link = make("a", { href: "#cluster-" + cluster.nearest }, data.clusters[cluster.nearest].name);
      link.addEventListener("click", (event) => { event.preventDefault(); open(cluster.nearest); });
      about.append(make("span", {}, "nearest: ", link));
    }
    const kind = "examples " + (data.kind === "image" ? "image" : "text");
    node.append(head, meter(cluster), about, make("h4", {}, "most typical"), make("ul", { class: kind }, ...cluster.typical.map(example)));
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

  drawMap();
  draw();
  dark.addEventListener("change", () => draw());

  function listed(id, rows, extra) {
    const node = byId(id);
    if (!node) return;
    const most = 500;
    node.replaceChildren(...rows.slice(0, most).map((row) => {
      const item = example(row);
      item.append(" ", make("span", { class: "dim" }, "id " + row.id + extra(row)));
      return item;
    }));
    if (rows.length > most) node.after(make("p", { class: "dim" }, "The first " + most + " of " + rows.length.toLocaleString("en") + "; the export has all."));
  }
  listed("to-label", data.to_label, (row) => ", " + nameOf(row.cluster));
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

  function drawMap() {
    const canvas = byId("map");
    if (!canvas) return;
    const map = data.map, tip = byId("tip"), context = canvas.getContext("2d"), view = byId("map-colour");
    const SIDE = 24, columns = Math.ceil(Math.sqrt(map.x.length));
    const sprite = map.sprite ? Object.assign(new Image(), { src: map.sprite }) : null;
    if (sprite) {
      view.append(make("option", { value: "pictures" }, "pictures"));
      view.value = "pictures";
      sprite.addEventListener("load", () => paint());
    }
    let width = 0, height = 0, active = -1, zoom = 1, left = 0, top = 0, drag = null;
    const px = (i) => 16 + ((map.x[i] / 1000 - left) * zoom) * (width - 32);
    const py = (i) => height - 16 - ((map.y[i] / 1000 - top) * zoom) * (height - 32);
    const warmth = (i) => "hsl(" + (1.2 * map.confidence[i]) + " 70% 45%)";
    const middles = data.clusters.map(() => [0, 0, 0]);
    map.label.forEach((label, i) => { const m = middles[label] || [0, 0, 0]; m[0] += map.x[i]; m[1] += map.y[i]; m[2] += 1; });

    function square(i, size, colour) {
      context.fillStyle = colour;
      context.beginPath();
      context.arc(px(i), py(i), size / 2, 0, 7);
      context.fill();
    }
    function pictures(side) {
      const taken = new Set();
      for (let i = 0; i < map.x.length; i++) {
        const x = px(i), y = py(i), faded = chosen >= 0 && map.label[i] !== chosen;
        const place = Math.floor(x / side) + ":" + Math.floor(y / side);
        if (taken.has(place) || faded) { if (!taken.has(place)) square(i, 2.5, colourOf(map.label[i])); continue; }
        taken.add(place);
        context.drawImage(sprite, (i % columns) * SIDE, Math.floor(i / columns) * SIDE, SIDE, SIDE, x - side / 2, y - side / 2, side, side);
        context.strokeStyle = colourOf(map.label[i]);
        context.lineWidth = 2;
        context.strokeRect(x - side / 2, y - side / 2, side, side);
      }
    }
    function names() {
      context.font = "600 12px system-ui,sans-serif";
      context.textAlign = "center";
      context.lineJoin = "round";
      const boxes = [];
      data.clusters.slice().sort(sorts.size).slice(0, 40).forEach((cluster) => {
        const m = middles[cluster.label];
        if (!m[2] || (chosen >= 0 && chosen !== cluster.label)) return;
        const middle = 16 + ((m[0] / m[2] / 1000 - left) * zoom) * (width - 32), y = height - 16 - ((m[1] / m[2] / 1000 - top) * zoom) * (height - 32);
        const name = cluster.name.length > 34 ? cluster.name.slice(0, 33) + "…" : cluster.name;
        const half = context.measureText(name).width / 2 + 3;
        if (middle < 0 || middle > width || y < 12 || y > height - 4) return;
        const x = Math.min(width - half, Math.max(half, middle));
        const clash = boxes.some((b) => Math.abs(b[0] - x) < b[2] + half && Math.abs(b[1] - y) < 15);
        if (clash) return;
        boxes.push([x, y, half]);
        context.lineWidth = 4;
        context.strokeStyle = style.getPropertyValue("--card");
        context.strokeText(name, x, y + 4);
        context.fillStyle = style.getPropertyValue("--ink");
        context.fillText(name, x, y + 4);
      });
    }
    function paint() {
      const ratio = window.devicePixelRatio || 1;
      width = canvas.clientWidth; height = canvas.clientHeight;
      canvas.width = width * ratio; canvas.height = height * ratio;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      const size = (map.x.length > 5000 ? 2.6 : 4.6) * Math.min(2, Math.sqrt(zoom));
      if (view.value === "pictures" && sprite.complete) pictures(28 * Math.min(2, Math.sqrt(zoom)));
      else for (let i = 0; i < map.x.length; i++) {
        context.globalAlpha = chosen >= 0 && map.label[i] !== chosen ? 0.12 : 0.85;
        square(i, size, view.value === "confidence" ? warmth(i) : colourOf(map.label[i]));
      }
      context.globalAlpha = 1;
      if (view.value === "label" || (view.value === "pictures" && chosen >= 0)) names();
      if (active >= 0) {
        context.strokeStyle = style.getPropertyValue("--ink");
        context.lineWidth = 2;
        context.strokeRect(px(active) - 7, py(active) - 7, 14, 14);
      }
      byId("map-legend").replaceChildren(...(view.value === "confidence" ? [data.word + " 0 %", make("i"), "100 %"] : []));
      byId("map-note").textContent = map.x.length.toLocaleString() + " rows shown" + (chosen >= 0 ? ", " + data.clusters[chosen].name + " picked out" : "");
      byId("map-reset").disabled = zoom === 1 && chosen < 0;
    }
    function point(i) {
      active = i;
      paint();
      if (i < 0) { tip.hidden = true; return; }
      const lines = [make("strong", {}, make("span", { class: "dot", style: "background:" + colourOf(map.label[i]) }), " " + nameOf(map.label[i])),
        make("div", {}, map.text[i] || "id " + map.id[i]),
        make("div", { class: "dim" }, "id " + map.id[i] + ", " + data.word + " " + map.confidence[i] + " %")];
      if (sprite && sprite.complete) {
        const picture = make("canvas", { width: SIDE, height: SIDE, style: "width:96px;height:96px" });
        picture.getContext("2d").drawImage(sprite, (i % columns) * SIDE, Math.floor(i / columns) * SIDE, SIDE, SIDE, 0, 0, SIDE, SIDE);
        lines.unshift(picture);
      }
      tip.replaceChildren(...lines);
      tip.hidden = false;
      tip.style.left = Math.max(0, Math.min(px(i) + 14, width - tip.offsetWidth - 4)) + "px";
      tip.style.top = Math.max(0, Math.min(py(i) + 14, height - tip.offsetHeight - 4)) + "px";
    }
    function zoomTo(next, x, y) {
      next = Math.min(40, Math.max(1, next));
      const u = (x - 16) / (width - 32), v = (height - 16 - y) / (height - 32);
      left += u / zoom - u / next; top += v / zoom - v / next;
      zoom = next;
      const most = 1 - 1 / zoom;
      left = Math.min(most, Math.max(0, left)); top = Math.min(most, Math.max(0, top));
      point(active);
    }
    function reset() { zoom = 1; left = 0; top = 0; chosen = -1; point(-1); }
    showOnMap = (label) => {
      reset();
      chosen = label;
      paint();
      canvas.scrollIntoView({ block: "center" });
      canvas.focus({ preventScroll: true });
    };
    canvas.addEventListener("mousemove", (event) => {
      if (drag) {
        left = drag.left - (event.offsetX - drag.x) / zoom / (width - 32);
        top = drag.top + (event.offsetY - drag.y) / zoom / (height - 32);
        drag.moved = true;
        zoomTo(zoom, 0, 0);
        return;
      }
      let best = -1, nearest = 196;
      for (let i = 0; i < map.x.length; i++) {
        const d = (px(i) - event.offsetX) ** 2 + (py(i) - event.offsetY) ** 2;
        if (d < nearest) { nearest = d; best = i; }
      }
      if (best !== active) point(best);
    });
    canvas.addEventListener("mousedown", (event) => { drag = { x: event.offsetX, y: event.offsetY, left, top, moved: false }; });
    window.addEventListener("mouseup", () => { setTimeout(() => { drag = null; }); });
    canvas.addEventListener("mouseleave", () => point(-1));
    canvas.addEventListener("click", () => { if (active >= 0 && !(drag && drag.moved)) open(map.label[active]); });
    // With Ctrl, or once zoomed in: else the wheel goes on scrolling the page.
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && zoom === 1 && event.deltaY > 0) return;
      event.preventDefault();
      zoomTo(zoom * (event.deltaY < 0 ? 1.25 : 0.8), event.offsetX, event.offsetY);
    }, { passive: false });
    const order = map.x.map((_, i) => i).sort((a, b) => map.x[a] - map.x[b]);
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
      if (step) { event.preventDefault(); point(order[(order.indexOf(active) + step + order.length) % order.length]); }
      else if (event.key === "Enter" && active >= 0) open(map.label[active]);
      else if (event.key === "Escape") reset();
      else if (event.key === "+" || event.key === "-") zoomTo(zoom * (event.key === "+" ? 1.5 : 1 / 1.5), active < 0 ? width / 2 : px(active), active < 0 ? height / 2 : py(active));
    });
    view.addEventListener("change", paint);
    byId("map-reset").addEventListener("click", reset);
    window.addEventListener("resize", paint);
    dark.addEventListener("change", paint);
    paint();
  }
})();
