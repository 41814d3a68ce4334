// Questions one after the other, answered by keys: which class, same or different, the test sample.
import { askJson, byId, content, dot, make, notice, percent } from "./ui.js";

// The first classes have a key each.
const KEYS = "123456789";

function card(row, app, about) {
  return make("div", { class: "question" },
    make(row.image ? "div" : "p", {}, content(row)),
    make("small", {}, dot(row.label), " " + app.nameOf(row.label) + ", id " + row.id + ", " + app.state.word + " " + percent(row.confidence) + (about || "")));
}
// Classes as buttons; typing in `input` keeps those that have the letters.
function classList(node, input, app, first, answer) {
  const words = input.value.trim().toLowerCase();
  const found = [...new Set([...first, ...app.choices()])].filter((name) => name.toLowerCase().includes(words)).slice(0, 30);
  // Redrawn only if it is another list: the focus stays where it is.
  const typed = input.value.trim(), isNew = typed && !found.some((name) => name.toLowerCase() === words);
  const told = [...found, isNew ? typed : ""].join("\n");
  if (node.told === told) return found;
  node.told = told;
  node.replaceChildren(...found.map((name, at) => make("button", { type: "button", class: "class", onclick: () => answer(name) },
    at < KEYS.length ? make("kbd", {}, KEYS[at]) : null, name)));
  if (isNew) node.append(make("button", { type: "button", class: "class", onclick: () => answer(typed) }, make("kbd", {}, "Enter"), "new class: " + typed));
  return found;
}
// A letter begins to type a class, wherever the focus is in the panel.
function typeInto(input, event) {
  if (event.key.length !== 1 || !/\p{L}/u.test(event.key)) return false;
  input.focus();
  return true;
}
const isOpen = (id) => !byId(id).hidden;

export function createLabel(app) {
  let queue = [], pair = [], kind = "class", skipped = new Set(), shownClasses = [], waiting = false, passed = 0;

  async function next() {
    if (waiting) return;
    waiting = true;
    try {
      if (kind === "pair") pair = await askJson("pair", { skip: passed });
      else {
        queue = queue.slice(1).filter((row) => !skipped.has(row.id));
        if (!queue.length) {
          if (!byId("question").firstChild) byId("question").textContent = "Choosing what to ask …";
          queue = (await askJson("queue")).filter((row) => !skipped.has(row.id));
          if (!queue.length && skipped.size) { skipped = new Set(); queue = await askJson("queue"); }
        }
      }
    } catch (error) { notice(error.message, true); } finally { waiting = false; }
    draw();
  }
  function draw() {
    const isPair = kind === "pair", row = queue[0];
    byId("label-form").hidden = isPair || !row;
    byId("class-list").hidden = isPair || !row;
    byId("pair-buttons").hidden = !isPair || !pair.length;
    if (isPair) byId("question").replaceChildren(...(pair.length ? [make("p", {}, "Do these belong together?"), ...pair.map((each) => card(each, app))] : [make("p", {}, "No pair is open.")]));
    else {
      byId("question").replaceChildren(row ? card(row, app) : make("p", {}, "Every row has an answer."));
      choices();
    }
  }
  function choices() {
    const row = queue[0];
    if (row) shownClasses = classList(byId("class-list"), byId("label-input"), app, row.label < 0 ? [] : [app.nameOf(row.label)], answer);
  }
  async function answer(name) {
    const row = queue[0];
    if (!row || !name || waiting) return;
    if (await app.act({ op: "label", rows: [row.row], label: name }, "row " + row.id + " is " + name)) {
      byId("label-input").value = "";
      await next();
    }
  }
  async function link(same) {
    if (!pair.length || waiting) return;
    if (await app.act({ op: "link", rows: pair.map((row) => row.row), same }, same ? "same" : "different")) await next();
  }
  function skip() { if (queue[0]) skipped.add(queue[0].id); next(); }

  byId("label-input").addEventListener("input", choices);
  byId("label-input").addEventListener("keydown", (event) => { if (event.key === "Escape") { event.preventDefault(); byId("label-input").value = ""; skip(); } });
  byId("label-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = byId("label-input").value.trim();
    answer(shownClasses.find((name) => name.toLowerCase() === words.toLowerCase()) || words);
  });
  byId("label-skip").addEventListener("click", skip);
  byId("pair-same").addEventListener("click", () => link(true));
  byId("pair-different").addEventListener("click", () => link(false));
  byId("pair-skip").addEventListener("click", () => { passed += 1; next(); });
  for (const radio of document.querySelectorAll("input[name=ask]"))
    radio.addEventListener("change", () => { kind = radio.value; queue = []; byId("question").textContent = "Choosing what to ask …"; next(); });

  function changed(change) {
    const { before, after } = change, up = (a, b) => percent(a, 1) + " → " + percent(b, 1);
    return make("div", { class: "change" }, change.answers + (change.answers === 1 ? " answer" : " answers") + " taken in: " + change.moved.toLocaleString("en") + " rows moved, "
      + (app.state.word === "score" ? "mean score " : "expected accuracy ") + up(before.accuracy, after.accuracy) + ", usable at 95 % " + up(before.covered, after.covered)
      + (before.n_clusters === after.n_clusters ? "" : ", clusters " + before.n_clusters + " → " + after.n_clusters));
  }
  return {
    open() { if (!queue.length && !pair.length) next(); else draw(); },
    show() {
      const { state } = app, wait = state.pending ? [make("div", { class: "change dim" }, state.pending + (state.pending === 1 ? " answer is" : " answers are") + " kept and being taken in …")] : [];
      if (!state.can_answer) wait.splice(0, 1, make("div", { class: "change dim" }, "Answers are kept, but not taken in: the embeddings are not at hand (start with --embeddings)."));
      byId("changes").replaceChildren(...wait, ...state.changes.map(changed));
      if (isOpen("panel-label") && kind === "class" && queue.length) choices();
    },
    key(event) {
      if (!isOpen("panel-label")) return false;
      const at = KEYS.indexOf(event.key), same = { y: true, n: false }[event.key];
      if (kind === "class" && at >= 0 && shownClasses[at]) answer(shownClasses[at]);
      else if (kind === "pair" && same !== undefined) link(same);
      else return kind === "class" && queue.length > 0 && typeInto(byId("label-input"), event);
      event.preventDefault();
      return true;
    },
  };
}

export function createCertify(app) {
  let rows = [], shownClasses = [], asking = false;

  async function next() {
    if (asking) return;
    asking = true;
    try { rows = app.state.sample ? await askJson("queue", { of: "sample" }) : []; } catch (error) { notice(error.message, true); } finally { asking = false; }
    await draw();
  }
  async function draw() {
    const { sample } = app.state, row = rows[0];
    byId("check-form").hidden = !row;
    byId("check-list").hidden = !row;
    byId("check-question").replaceChildren(...(row ? [card(row, app, "; " + sample.left + " of " + sample.rows + " left")] : []));
    if (row) choices();
    else if (sample && !sample.left) await promise();
  }
  function choices() { if (rows[0]) shownClasses = classList(byId("check-list"), byId("check-input"), app, rows[0].label < 0 ? [] : [app.nameOf(rows[0].label)], answer); }
  async function answer(name) {
    if (!rows[0] || !name || asking) return;
    if (await app.act({ op: "check", rows: [rows[0].row], label: name })) { byId("check-input").value = ""; await next(); }
  }
  async function promise() {
    const node = byId("certificate");
    try {
      const found = await askJson("certificate");
      const text = found.threshold === null
        ? "Nothing can be promised from " + found.n_labels + " labels: " + found.reason
        : percent(found.coverage, 1) + " of the rows, those with " + app.state.word + " at or above " + found.threshold.toFixed(4) + ", are right in at least " + percent(found.accuracy, 1) + ", with probability " + percent(1 - found.delta) + " (by " + found.n_labels + " labels).";
      node.replaceChildren(make("p", { class: "promise" }, text));
    } catch (error) { node.replaceChildren(make("p", { class: "promise" }, error.message)); }
  }
  byId("draw-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = { op: "draw", budget: Number(byId("draw-rows").value), accuracy: Number(byId("draw-accuracy").value) };
    byId("certificate").replaceChildren();
    if (await app.act(asked, "drawn: label them all")) await next();
  });
  byId("check-input").addEventListener("input", choices);
  byId("check-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = byId("check-input").value.trim();
    answer(shownClasses.find((name) => name.toLowerCase() === words.toLowerCase()) || words);
  });
  return {
    open: next,
    show() { if (isOpen("panel-certify") && rows.length) choices(); },
    key(event) {
      const at = KEYS.indexOf(event.key);
      if (!isOpen("panel-certify") || !rows.length) return false;
      if (at < 0 || !shownClasses[at]) return typeInto(byId("check-input"), event);
      event.preventDefault();
      answer(shownClasses[at]);
      return true;
    },
  };
}
