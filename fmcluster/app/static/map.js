// The map: up to some 200,000 points on a canvas, with zoom, pan, lasso, hover and keyboard.
import { byId, colorOf, dark, hue, make } from "./ui.js";

const MARGIN = 16, CELLS = 256, FULL = 65536;
// From so many points on, pixels are set instead of circles drawn.
const MANY = 6000;

function rgb(h, s, l) {
  const a = s * Math.min(l, 1 - l);
  const f = (n) => { const k = (n + h / 30) % 12; return Math.round(255 * (l - a * Math.max(-1, Math.min(k - 3, 9 - k, 1)))); };
  return (255 << 24) | (f(4) << 16) | (f(8) << 8) | f(0);
}

export function createMap({ onPoint, onOpen, onLasso, nameOf, sizes }) {
  const canvas = byId("map"), context = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  let n = 0, x = [], y = [], labels = [], confidence = [], odd = [], classes = [], classNames = [];
  let width = 0, height = 0, zoom = 1, left = 0, top = 0, active = -1, drag = null, loop = null, lassoing = false;
  let view = "label", mask = null, highlighted = -1, asked = false, tint = null, middles = null, picked = 0, start = null, order = null, walk = null;

  const px = (i) => MARGIN + (x[i] / FULL - left) * zoom * (width - 2 * MARGIN);
  const py = (i) => height - MARGIN - (y[i] / FULL - top) * zoom * (height - 2 * MARGIN);
  const dataX = (p) => ((p - MARGIN) / (width - 2 * MARGIN) / zoom + left) * FULL;
  const dataY = (p) => ((height - MARGIN - p) / (height - 2 * MARGIN) / zoom + top) * FULL;
  const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor((value * CELLS) / FULL)));
  const shown = (i) => (mask ? mask[i] === 1 : highlighted < 0 || labels[i] === highlighted);

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
    walk = null; tint = null; middles = null;
    paint();
  }
  function setColors(buffer, names) {
    const count = buffer.byteLength / 7;
    labels = new Int32Array(buffer, 0, count);
    confidence = new Uint8Array(buffer, 4 * count, count);
    odd = new Uint8Array(buffer, 5 * count, count);
    classes = new Uint8Array(buffer, 6 * count, count);
    classNames = names;
    tint = null; middles = null;
    paint();
  }
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
  function middlesOf() {
    if (middles) return middles;
    middles = new Map();
    for (let i = 0; i < n; i++) {
      if (labels[i] < 0) continue;
      let m = middles.get(labels[i]);
      if (!m) middles.set(labels[i], (m = [0, 0, 0]));
      m[0] += x[i]; m[1] += y[i]; m[2] += 1;
    }
    return middles;
  }
  const css = (color) => "rgb(" + (color & 255) + " " + ((color >> 8) & 255) + " " + ((color >> 16) & 255) + ")";

  function pixels(ratio, color) {
    const w = canvas.width, h = canvas.height, image = context.createImageData(w, h), data = new Uint32Array(image.data.buffer);
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
  function circles(color) {
    const radius = 2.4 * Math.min(2, Math.sqrt(zoom));
    // Answered rows come last, and larger, where classes are shown.
    const order = view === "class" ? Array.from(classes.keys()).slice(0, n).sort((a, b) => classes[a] - classes[b]) : null;
    for (let at = 0; at < n; at++) {
      const i = order ? order[at] : at;
      context.globalAlpha = shown(i) ? 0.85 : 0.12;
      context.fillStyle = css(color[i]);
      context.beginPath();
      context.arc(px(i), py(i), order && classes[i] ? 2 * radius : radius, 0, 7);
      context.fill();
    }
    context.globalAlpha = 1;
  }
  function names() {
    context.font = "600 12px system-ui,sans-serif";
    context.textAlign = "center";
    context.lineJoin = "round";
    const boxes = [], size = sizes();
    if (!size.length) return;
    [...middlesOf().keys()].sort((a, b) => (size[b] || 0) - (size[a] || 0)).slice(0, width < 500 ? 15 : 40).forEach((label) => {
      if (highlighted >= 0 && highlighted !== label) return;
      const [mx, my, count] = middles.get(label);
      const p = MARGIN + (mx / count / FULL - left) * zoom * (width - 2 * MARGIN), q = height - MARGIN - (my / count / FULL - top) * zoom * (height - 2 * MARGIN);
      const full = nameOf(label), most = width < 500 ? 18 : 34;
      const name = full.length > most ? full.slice(0, most - 1) + "…" : full;
      const half = context.measureText(name).width / 2 + 4;
      if (p < 0 || p > width || q < 12 || q > height - 4) return;
      const at = Math.min(width - half, Math.max(half, p));
      if (boxes.some((b) => Math.abs(b[0] - at) < b[2] + half && Math.abs(b[1] - q) < 16)) return;
      boxes.push([at, q, half]);
      context.lineWidth = 4;
      context.strokeStyle = style.getPropertyValue("--card");
      context.strokeText(name, at, q + 4);
      context.fillStyle = style.getPropertyValue("--ink");
      context.fillText(name, at, q + 4);
    });
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
  function draw() {
    asked = false;
    const ratio = window.devicePixelRatio || 1;
    width = canvas.clientWidth; height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!ready()) return;
    const color = tints();
    if (n > MANY) pixels(ratio, color); else circles(color);
    if (view === "label") names();
    if (active >= 0) {
      context.strokeStyle = style.getPropertyValue("--ink");
      context.lineWidth = 2;
      context.strokeRect(px(active) - 7, py(active) - 7, 14, 14);
    }
    if (loop && loop.length > 1) {
      context.beginPath();
      loop.forEach(([p, q], at) => (at ? context.lineTo(p, q) : context.moveTo(p, q)));
      context.closePath();
      context.strokeStyle = style.getPropertyValue("--accent");
      context.lineWidth = 2;
      context.stroke();
    }
    const chosen = mask ? picked.toLocaleString("en") + " rows chosen" : highlighted >= 0 ? nameOf(highlighted) + " picked out" : "";
    byId("map-note").textContent = n.toLocaleString("en") + " rows" + (chosen ? ", " + chosen : "");
    legend();
    byId("map-reset").disabled = zoom === 1 && !mask && highlighted < 0;
    canvas.dataset.drawn = "yes";
    if (!performance.getEntriesByName("map-painted").length) performance.mark("map-painted");
  }
  function paint() { if (!asked) { asked = true; requestAnimationFrame(draw); } }
  function point(i) { if (i !== active) { active = i; onPoint(i, i < 0 ? 0 : px(i), i < 0 ? 0 : py(i), width, height); paint(); } }
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
    paint();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !ready()) return;
    canvas.setPointerCapture(event.pointerId);
    if (lassoing) loop = [[event.offsetX, event.offsetY]];
    else drag = { x: event.offsetX, y: event.offsetY, left, top, moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!ready()) return;
    if (loop) { loop.push([event.offsetX, event.offsetY]); paint(); return; }
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
  canvas.addEventListener("pointercancel", () => { drag = null; loop = null; paint(); });
  canvas.addEventListener("pointerleave", () => { if (!loop && !drag) point(-1); });
  // In a narrow window the wheel scrolls the page, unless it is zoomed in already.
  canvas.addEventListener("wheel", (event) => {
    if (window.innerWidth <= 820 && !event.ctrlKey && zoom === 1) return;
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
  new ResizeObserver(paint).observe(canvas);

  return {
    setPoints, setColors, reset, paint, within,
    place: (i) => [px(i), py(i)],
    get isLasso() { return lassoing; },
    setLasso,
    labelOf: (i) => labels[i],
    confidenceOf: (i) => confidence[i] / 255,
    colorOf,
    rowsOf: (label) => { const found = []; for (let i = 0; i < labels.length; i++) if (labels[i] === label) found.push(i); return found; },
    choose(rows) { highlighted = -1; mask = null; if (rows && n) { mask = new Uint8Array(n); picked = rows.length; for (const i of rows) if (i < n) mask[i] = 1; } paint(); },
    highlight(label) { mask = null; highlighted = label; paint(); },
  };
}
