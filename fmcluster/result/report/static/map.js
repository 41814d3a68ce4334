// The map: every row a point on one canvas, up to some 200,000 of them; zoom, lasso, keyboard.
// The report has it inside its page, the app serves it.
import { byId, colorOf, count, dark, hue, make, rowsWord } from "./dom.js";

const MARGIN = 16, CELLS = 256, FULL = 65536;
// From so many points on, pixels are set instead of circles drawn.
const MANY = 6000;
// A window so narrow holds few names, and short ones.
const NARROW = 520;

function rgb(h, s, l) {
  const a = s * Math.min(l, 1 - l);
  const f = (n) => { const k = (n + h / 30) % 12; return Math.round(255 * (l - a * Math.max(-1, Math.min(k - 3, 9 - k, 1)))); };
  return (255 << 24) | (f(4) << 16) | (f(8) << 8) | f(0);
}

// nameOf(label) and sizes() are asked with every frame: names change with the level.
// scrolls() says whether the wheel is the page's until something is zoomed.
// pictures: {image, places, side, columns} of one sheet; places[i] < 0 has no picture.
export function createMap({ onPoint, onOpen, onLasso, nameOf, sizes, scrolls = () => false, pictures = null }) {
  const canvas = byId("map"), screen = canvas.getContext("2d");
  // What does not change while the pointer moves is drawn once, and copied.
  const layer = document.createElement("canvas"), context = layer.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  let n = 0, x = [], y = [], labels = [], confidence = [], odd = [], classes = [], classNames = [];
  let width = 0, height = 0, zoom = 1, left = 0, top = 0, active = -1, drag = null, loop = null, lassoing = false;
  let view = byId("map-color").value, mask = null, highlighted = -1, asked = false, isStale = true, tint = null, middles = null, picked = 0, start = null, order = null, walk = null;

  const px = (i) => MARGIN + (x[i] / FULL - left) * zoom * (width - 2 * MARGIN);
  const py = (i) => height - MARGIN - (y[i] / FULL - top) * zoom * (height - 2 * MARGIN);
  const dataX = (p) => ((p - MARGIN) / (width - 2 * MARGIN) / zoom + left) * FULL;
  const dataY = (p) => ((height - MARGIN - p) / (height - 2 * MARGIN) / zoom + top) * FULL;
  const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor((value * CELLS) / FULL)));
  const shown = (i) => (mask ? mask[i] === 1 : highlighted < 0 || labels[i] === highlighted);

  // uint16 x and y of each row.
  function setPoints(buffer) {
    const flat = new Uint16Array(buffer);
    n = flat.length / 2;
    x = new Uint16Array(n); y = new Uint16Array(n);
    start = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < n; i++) { x[i] = flat[2 * i]; y[i] = flat[2 * i + 1]; start[cell(y[i]) * CELLS + cell(x[i]) + 1]++; }
    for (let c = 0; c < CELLS * CELLS; c++) start[c + 1] += start[c];
    order = new Uint32Array(n);
    const next = start.slice();
    for (let i = 0; i < n; i++) order[next[cell(y[i]) * CELLS + cell(x[i])]++] = i;
    walk = null; active = -1;
    changed();
  }
  // int32 labels, then uint8 confidence, outlier score and class of each row.
  function setColors(buffer, names) {
    const rows = buffer.byteLength / 7;
    labels = new Int32Array(buffer, 0, rows);
    confidence = new Uint8Array(buffer, 4 * rows, rows);
    odd = new Uint8Array(buffer, 5 * rows, rows);
    classes = new Uint8Array(buffer, 6 * rows, rows);
    classNames = names;
    changed();
  }
  function setLabels(found) { labels = found; highlighted = -1; changed(); }
  function changed() { tint = null; middles = null; paint(); }
  // Rows that came since the map was laid out have no point.
  const ready = () => n > 0 && labels.length >= n;

  function nearest(p, q, reach = 14) {
    let best = -1, least = reach * reach;
    const [x0, x1] = [cell(dataX(p - reach)), cell(dataX(p + reach))], [y0, y1] = [cell(dataY(q + reach)), cell(dataY(q - reach))];
    for (let r = y0; r <= y1; r++) for (let at = start[r * CELLS + x0]; at < start[r * CELLS + x1 + 1]; at++) {
      const i = order[at], d = (px(i) - p) ** 2 + (py(i) - q) ** 2;
      if (d < least && shown(i)) { least = d; best = i; }
    }
    return best;
  }
  function within(polygon) {
    const xs = polygon.map(([p]) => dataX(p)), ys = polygon.map(([, q]) => dataY(q));
    const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const found = [];
    for (let i = 0; i < n; i++) {
      if (x[i] < x0 || x[i] > x1 || y[i] < y0 || y[i] > y1) continue;
      let inside = false;
      for (let a = 0, b = xs.length - 1; a < xs.length; b = a++)
        if (ys[a] > y[i] !== ys[b] > y[i] && x[i] < ((xs[b] - xs[a]) * (y[i] - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
      if (inside) found.push(i);
    }
    return found;
  }

  // Colors and middles of clusters are found when these change, not with every frame.
  function tints() {
    if (tint) return tint;
    const light = dark.matches ? 0.62 : 0.46, known = new Map();
    const warm = Array.from({ length: 256 }, (_, v) => rgb((120 * v) / 255, 0.7, 0.45));
    tint = new Uint32Array(n);
    for (let i = 0; i < n; i++) {
      const label = labels[i];
      if (view === "confidence") tint[i] = warm[confidence[i]];
      else if (view === "outlier") tint[i] = warm[255 - odd[i]];
      else if (view === "class") tint[i] = classes[i] ? rgb(hue(classes[i]), 0.75, light) : rgb(0, 0, dark.matches ? 0.25 : 0.87);
      else {
        if (!known.has(label)) known.set(label, label < 0 ? rgb(0, 0, 0.55) : rgb(hue(label), 0.62, light));
        tint[i] = known.get(label);
      }
    }
    return tint;
  }
  // A name stands at the median of its rows: a few far off draw a mean to where none of them is.
  function middlesOf() {
    if (middles) return middles;
    const rows = new Map();
    for (let i = 0; i < n; i++) {
      if (labels[i] < 0) continue;
      const found = rows.get(labels[i]);
      if (found) found.push(i); else rows.set(labels[i], [i]);
    }
    middles = new Map();
    for (const [label, all] of rows) {
      const halfway = (axis) => { const sorted = Uint16Array.from(all, (i) => axis[i]).sort(); return sorted[sorted.length >> 1]; };
      middles.set(label, [halfway(x), halfway(y)]);
    }
    return middles;
  }
  const css = (color) => "rgb(" + (color & 255) + " " + ((color >> 8) & 255) + " " + ((color >> 16) & 255) + ")";

  function drawPixels(ratio, color) {
    const w = layer.width, h = layer.height, image = context.createImageData(w, h), data = new Uint32Array(image.data.buffer);
    const side = Math.max(1, Math.round((n > 60000 ? 1.6 : 2.4) * ratio * Math.min(2, Math.sqrt(zoom))));
    const isClass = view === "class", faint = mask || highlighted >= 0 ? (0x30 << 24) : isClass ? (0xff << 24) : 0;
    const above = isClass && !mask && highlighted < 0 ? (i) => classes[i] > 0 : shown;
    const sx = (zoom * (width - 2 * MARGIN) * ratio) / FULL, ox = (MARGIN - left * zoom * (width - 2 * MARGIN)) * ratio - side / 2;
    const sy = (zoom * (height - 2 * MARGIN) * ratio) / FULL, oy = (height - MARGIN + top * zoom * (height - 2 * MARGIN)) * ratio - side / 2;
    // What is picked out comes last, so that nothing covers it.
    for (let pass = faint ? 0 : 1; pass < 2; pass++) for (let i = 0; i < n; i++) {
      if (faint && above(i) !== (pass === 1)) continue;
      const p = Math.round(ox + sx * x[i]), q = Math.round(oy - sy * y[i]);
      if (p < 0 || q < 0 || p + side > w || q + side > h) continue;
      const value = pass ? color[i] : (color[i] & 0xffffff) | faint;
      for (let r = 0, at = q * w + p; r < side; r++, at += w) for (let s = 0; s < side; s++) data[at + s] = value;
    }
    context.putImageData(image, 0, 0);
  }
  function drawCircles(color) {
    const radius = 2.4 * Math.min(2, Math.sqrt(zoom));
    // Answered rows come last, and larger, where classes are shown.
    const sorted = view === "class" ? Array.from(classes.keys()).slice(0, n).sort((a, b) => classes[a] - classes[b]) : null;
    for (let at = 0; at < n; at++) {
      const i = sorted ? sorted[at] : at, p = px(i), q = py(i);
      if (p < -9 || q < -9 || p > width + 9 || q > height + 9) continue;
      context.globalAlpha = shown(i) ? 0.85 : 0.12;
      context.fillStyle = css(color[i]);
      context.beginPath();
      context.arc(p, q, sorted && classes[i] ? 2 * radius : radius, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
  }
  // As many pictures as have room; the other rows stay the points that they are.
  function drawPictures(color) {
    const side = 28 * Math.min(2, Math.sqrt(zoom)), taken = new Set();
    for (let i = 0; i < n; i++) {
      const at = pictures.places[i], p = px(i), q = py(i), place = Math.floor(p / side) + ":" + Math.floor(q / side);
      if (at < 0 || !shown(i) || taken.has(place) || p < -side || q < -side || p > width + side || q > height + side) continue;
      taken.add(place);
      context.drawImage(pictures.image, (at % pictures.columns) * pictures.side, Math.floor(at / pictures.columns) * pictures.side, pictures.side, pictures.side, p - side / 2, q - side / 2, side, side);
      context.strokeStyle = css(color[i]);
      context.lineWidth = 2;
      context.strokeRect(p - side / 2, q - side / 2, side, side);
    }
  }
  function drawNames() {
    context.font = "600 12px system-ui,sans-serif";
    context.textAlign = "center";
    context.lineJoin = "round";
    const boxes = [], size = sizes(), isNarrow = width < NARROW;
    if (!size.length) return;
    const middle = middlesOf();
    [...middle.keys()].sort((a, b) => (size[b] || 0) - (size[a] || 0)).slice(0, isNarrow ? 15 : 60).forEach((label) => {
      if (highlighted >= 0 && highlighted !== label) return;
      const [mx, my] = middle.get(label);
      const p = MARGIN + (mx / FULL - left) * zoom * (width - 2 * MARGIN), q = height - MARGIN - (my / FULL - top) * zoom * (height - 2 * MARGIN);
      const full = nameOf(label), most = isNarrow ? 18 : 34;
      const name = full.length > most ? full.slice(0, most - 1) + "…" : full;
      const half = context.measureText(name).width / 2 + 5;
      if (p < 0 || p > width || q < 12 || q > height - 8) return;
      const at = Math.min(width - half, Math.max(half, p));
      if (boxes.some((b) => Math.abs(b[0] - at) < b[2] + half && Math.abs(b[1] - q) < 17)) return;
      boxes.push([at, q, half]);
      context.lineWidth = 4;
      context.strokeStyle = style.getPropertyValue("--card");
      context.strokeText(name, at, q + 4);
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillText(name, at, q + 4);
    });
    canvas.dataset.names = String(boxes.length);
  }
  function legend() {
    const shownNames = view === "class" ? classNames.slice(0, 12) : [], told = [view, ...shownNames].join("\n");
    if (legend.told === told) return;
    legend.told = told;
    const ends = { confidence: ["unsure", "sure"], outlier: ["like the others", "unlike all others"] }[view];
    const parts = ends ? [ends[0], make("i", { class: view }), ends[1]] : shownNames.map((name, at) => make("span", { class: "key" }, make("span", { class: "dot", background: colorOf(at + 1) }), " " + name));
    if (view === "class" && !shownNames.length) parts.push("no row is labeled yet");
    if (classNames.length > 12 && view === "class") parts.push("and " + (classNames.length - 12) + " more");
    byId("map-legend").replaceChildren(...parts);
  }
  const hasPictures = () => pictures !== null && pictures.image.complete;
  function drawLayer(ratio) {
    if (layer.width !== canvas.width || layer.height !== canvas.height) { layer.width = canvas.width; layer.height = canvas.height; }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const color = tints();
    if (n > MANY) drawPixels(ratio, color); else drawCircles(color);
    if (view === "pictures" && hasPictures()) drawPictures(color);
    if (view === "label" || (view === "pictures" && highlighted >= 0)) drawNames();
    isStale = false;
  }
  function draw() {
    asked = false;
    const ratio = window.devicePixelRatio || 1;
    width = canvas.clientWidth; height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
      isStale = true;
    }
    screen.setTransform(1, 0, 0, 1, 0, 0);
    screen.clearRect(0, 0, canvas.width, canvas.height);
    if (!ready() || !canvas.width || !canvas.height) return;
    if (isStale) drawLayer(ratio);
    screen.drawImage(layer, 0, 0);
    screen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (active >= 0) {
      screen.strokeStyle = style.getPropertyValue("--ink");
      screen.lineWidth = 2;
      screen.strokeRect(px(active) - 7, py(active) - 7, 14, 14);
    }
    if (loop && loop.length > 1) {
      screen.beginPath();
      loop.forEach(([p, q], at) => (at ? screen.lineTo(p, q) : screen.moveTo(p, q)));
      screen.closePath();
      screen.strokeStyle = style.getPropertyValue("--accent");
      screen.lineWidth = 2;
      screen.stroke();
    }
    const chosen = mask ? rowsWord(picked) + " chosen" : highlighted >= 0 ? nameOf(highlighted) + " picked out" : "";
    byId("map-note").textContent = count(n) + " rows" + (chosen ? ", " + chosen : "");
    legend();
    byId("map-reset").disabled = zoom === 1 && !mask && highlighted < 0;
    canvas.dataset.drawn = "yes";
    if (!performance.getEntriesByName("map-painted").length) performance.mark("map-painted");
  }
  function refresh() { if (!asked) { asked = true; requestAnimationFrame(draw); } }
  function paint() { isStale = true; refresh(); }
  function point(i) { if (i !== active) { active = i; onPoint(i, i < 0 ? 0 : px(i), i < 0 ? 0 : py(i), width, height); refresh(); } }
  function hold() {
    const most = 1 - 1 / zoom;
    left = Math.min(most, Math.max(0, left)); top = Math.min(most, Math.max(0, top));
  }
  function zoomTo(next, p, q) {
    next = Math.min(60, Math.max(1, next));
    const u = (p - MARGIN) / (width - 2 * MARGIN), v = (height - MARGIN - q) / (height - 2 * MARGIN);
    left += u / zoom - u / next; top += v / zoom - v / next;
    zoom = next;
    hold();
    paint();
  }
  function reset() { zoom = 1; left = 0; top = 0; mask = null; highlighted = -1; point(-1); paint(); }
  function setLasso(on) {
    lassoing = on; loop = null;
    canvas.classList.toggle("lasso", on);
    byId("lasso").setAttribute("aria-pressed", String(on));
    refresh();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !ready()) return;
    canvas.setPointerCapture(event.pointerId);
    if (lassoing) loop = [[event.offsetX, event.offsetY]];
    else drag = { x: event.offsetX, y: event.offsetY, left, top, moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!ready()) return;
    if (loop) { loop.push([event.offsetX, event.offsetY]); refresh(); return; }
    if (drag) {
      if (!drag.moved && Math.abs(event.offsetX - drag.x) + Math.abs(event.offsetY - drag.y) < 4) return;
      left = drag.left - (event.offsetX - drag.x) / zoom / (width - 2 * MARGIN);
      top = drag.top + (event.offsetY - drag.y) / zoom / (height - 2 * MARGIN);
      drag.moved = true;
      hold();
      point(-1);
      paint();
    } else if (!lassoing) point(nearest(event.offsetX, event.offsetY));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (loop) {
      const found = loop.length > 2 ? within(loop) : [];
      setLasso(false);
      onLasso(found);
    } else if (drag && !drag.moved) {
      const i = nearest(event.offsetX, event.offsetY);
      if (i >= 0) onOpen(i);
    }
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => { drag = null; loop = null; refresh(); });
  canvas.addEventListener("pointerleave", () => { if (!loop && !drag) point(-1); });
  canvas.addEventListener("wheel", (event) => {
    if (scrolls() && !event.ctrlKey && zoom === 1) return;
    event.preventDefault();
    zoomTo(zoom * (event.deltaY < 0 ? 1.25 : 0.8), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    if (!ready() || event.ctrlKey || event.metaKey) return;
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (step) {
      event.preventDefault();
      walk = walk || Array.from(order.keys()).sort((a, b) => x[a] - x[b]);
      const at = walk.indexOf(active);
      for (let moved = 1; moved <= n; moved++) {
        const i = walk[(((at < 0 && step < 0 ? 0 : at) + step * moved) % n + n) % n];
        if (shown(i)) { point(i); break; }
      }
    } else if (event.key === "Enter" && active >= 0) onOpen(active);
    else if (event.key === "+" || event.key === "-") zoomTo(zoom * (event.key === "+" ? 1.5 : 1 / 1.5), active < 0 ? width / 2 : px(active), active < 0 ? height / 2 : py(active));
  });
  byId("lasso").addEventListener("click", () => setLasso(!lassoing));
  byId("map-reset").addEventListener("click", reset);
  byId("map-color").addEventListener("change", () => { view = byId("map-color").value; tint = null; paint(); });
  dark.addEventListener("change", () => { tint = null; paint(); });
  if (pictures) pictures.image.addEventListener("load", paint);
  new ResizeObserver(paint).observe(canvas);

  return {
    setPoints, setColors, setLabels, reset, paint, within,
    place: (i) => [px(i), py(i)],
    get isLasso() { return lassoing; },
    setLasso,
    labelOf: (i) => labels[i],
    confidenceOf: (i) => confidence[i] / 255,
    rowsOf: (label) => { const found = []; for (let i = 0; i < labels.length; i++) if (labels[i] === label) found.push(i); return found; },
    choose(rows) { highlighted = -1; mask = null; if (rows && n) { mask = new Uint8Array(n); picked = rows.length; for (const i of rows) if (i < n) mask[i] = 1; } paint(); },
    highlight(label) { mask = null; highlighted = label; paint(); },
  };
}
