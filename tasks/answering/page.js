// One image large, an answer a key; see page.html.

import { Grid } from "./grid.js";
import { Outbox, get, post } from "./saving.js";
import { showState } from "./sidebar.js";

const AHEAD = 12; // questions that are here before they are needed
const LOOKS = 1500; // milliseconds between two looks at how far all are
const FOUND = 40; // classes that a search lists
const $ = (id) => document.getElementById(id);

let facts = { classes: [], title: "coft", annotator: "", place: "" };
let folded = []; // the class names in small letters
let list = []; // questions in the order in which this person sees them
let at = 0;
const answers = new Map(); // by image: [kind, label]
const given = []; // images in the order of their answers, to undo
let outbox, grid;
let state = {};
let fetching = false;
let epoch = 0; // of who answers: what was asked for under another name is dropped

const annotator = () => $("annotator").value.trim() || facts.annotator;
const current = () => list[at];
const isGrid = () => !$("grid").hidden;

// --- questions ---------------------------------------------------------------------------------

async function wanted(count, have, label = null) {
  const before = [...outbox.waiting];
  const response = await post("questions", { annotator: annotator(), count, have, label });
  if (!response.ok) throw new Error(await response.text());
  const { questions } = await response.json();
  // The server does not know yet what is answered here and on its way.
  const onTheWay = new Set([...before, ...outbox.waiting].map((one) => one.image_id));
  return questions.filter((one) => !onTheWay.has(one.image_id));
}

async function fetchMore() {
  const open = list.filter((one, place) => place >= at && !answers.has(one.image_id));
  if (fetching || open.length >= AHEAD) return;
  fetching = true;
  const asked = epoch;
  try {
    const have = list.slice(-400).map((one) => one.image_id);
    const found = await wanted(AHEAD, have);
    if (asked !== epoch) return;
    const known = new Set(list.map((one) => one.image_id));
    for (const one of found) {
      if (known.has(one.image_id)) forget(one.image_id); // a later round asks it again
      list.push(one);
      ahead(one);
    }
    at = Math.min(at, list.length);
    if (found.length) show();
    else showWaiting();
  } catch {
    // The next look tries again.
  } finally {
    fetching = false;
  }
}

function forget(imageId) {
  const place = list.findIndex((one) => one.image_id === imageId);
  list.splice(place, 1);
  if (place < at) at--;
  answers.delete(imageId);
}

function ahead(question) {
  for (const side of [160, 1024]) new Image().src = `images/${question.image_id}?side=${side}`;
}

async function open(imageId) {
  let place = list.findIndex((one) => one.image_id === imageId);
  if (place < 0) {
    const found = await get(`questions/${imageId}?annotator=${encodeURIComponent(annotator())}`);
    if (found.said) answers.set(imageId, found.said);
    place = at;
    list.splice(place, 0, found.question);
  }
  setGrid(false);
  at = place;
  show();
}

// --- answers -----------------------------------------------------------------------------------

function answer(kind, label = null) {
  const question = current();
  if (!question) return;
  record([question], kind, label);
  tell(`${kind === "label" ? label : kind === "none" ? "None of these" : "Skipped"}`);
  at = next(at + 1);
  show();
  fetchMore();
}

function record(questions, kind, label) {
  for (const { image_id } of questions) {
    answers.set(image_id, [kind, label]);
    given.push(image_id);
  }
  outbox.add(annotator(), questions.map(({ image_id }) => ({ image_id, kind, label })));
}

function undo() {
  const image = given.pop();
  if (!image) return tell("Nothing to take back");
  answers.delete(image);
  outbox.add(annotator(), [{ image_id: image, kind: "undone", label: null }]);
  tell("Taken back");
  setGrid(false);
  const place = list.findIndex((one) => one.image_id === image);
  if (place >= 0) at = place;
  show();
}

function next(from) {
  let place = from;
  while (place < list.length && answers.has(list[place].image_id)) place++;
  return place;
}

function move(step) {
  at = Math.max(0, Math.min(list.length, at + step));
  show();
  fetchMore();
}

// --- what is shown -----------------------------------------------------------------------------

function tell(text) {
  $("said").textContent = text;
}

function show() {
  const question = current();
  $("one").hidden = isGrid() || !question;
  showWaiting();
  if (!question) return;
  setZoom(false);
  const image = $("image");
  const source = `images/${question.image_id}?side=1024`;
  if (!image.src.endsWith(source)) image.src = source;
  image.alt = `Image ${at + 1}, to be named`;
  const share = question.confidence === null ? "" : ` ${Math.round(100 * question.confidence)} %`;
  const says = question.label === null ? "" : `Model: ${question.label}${share}. `;
  $("reason").textContent = `${says}${question.reason ? `Asked because: ${question.reason}` : ""}`;
  showLikely(question);
  showStrip();
  showAlike(question);
  showCount();
  $("found").hidden = true;
  $("find").value = "";
}

function showLikely(question) {
  const [kind, label] = answers.get(question.image_id) || [];
  const offered = question.likely.length ? question.likely : [[question.label, question.confidence]];
  $("likely").replaceChildren(
    ...offered.filter(([name]) => name !== null).map(([name, share], place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-keyshortcuts", String(place + 1));
      button.classList.toggle("chosen", kind === "label" && label === name);
      const key = document.createElement("kbd");
      key.textContent = place + 1;
      const text = document.createElement("span");
      text.className = "name";
      text.textContent = name;
      const likely = document.createElement("span");
      likely.className = "share";
      likely.textContent = share === null ? "" : `${Math.round(100 * share)} %`;
      button.append(key, text, likely);
      button.addEventListener("click", () => answer("label", name));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  for (const name of ["none", "skip"]) $(name).classList.toggle("chosen", kind === name);
  if (kind === "label" && !offered.some(([name]) => name === label)) tell(`Answered: ${label}`);
}

function showStrip() {
  const places = [-3, -2, -1, 0, 1, 2, 3].map((step) => at + step).filter((place) => list[place]);
  $("strip").replaceChildren(
    ...places.map((place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.tabIndex = -1;
      button.setAttribute("aria-label", `Image ${place + 1}`);
      button.classList.toggle("now", place === at);
      button.classList.toggle("far", Math.abs(place - at) > 2);
      button.classList.toggle("done", answers.has(list[place].image_id));
      const image = new Image();
      image.src = `images/${list[place].image_id}?side=160`;
      image.alt = "";
      button.append(image);
      button.addEventListener("click", () => move(place - at));
      return button;
    }),
  );
}

async function showAlike(question) {
  let alike = [];
  try {
    ({ alike } = await get(`alike/${question.image_id}`));
  } catch {
    return;
  }
  if (question !== current()) return;
  $("alike-box").hidden = alike.length === 0;
  $("alike").replaceChildren(
    ...alike.map(({ image_id, label, similarity }) => {
      const figure = document.createElement("figure");
      const image = new Image();
      image.src = `images/${image_id}?side=160`;
      image.alt = "";
      const words = document.createElement("figcaption");
      words.textContent = `${label} · ${similarity.toFixed(2)}`;
      figure.append(image, words);
      return figure;
    }),
  );
}

function showCount() {
  const asked = state.asked || 0;
  $("progress").value = asked ? (state.done || 0) / asked : 0;
  $("count").textContent = asked ? `${state.done} of ${asked} answered` : "";
}

function showWaiting() {
  const waits = !isGrid() && !current();
  $("waiting").hidden = !waits;
  if (!waits) return;
  const others = state.asked > state.done && state.open === 0;
  let words = "Nothing is open now.";
  if (state.training !== null && state.training !== undefined) {
    words = state.asked ? "All answered. New questions come with the next round." : "The first question is being made; this takes a minute or more.";
  } else if (state.finished) words = "All is answered. Thank you.";
  else if (others) words = "The rest is before others now.";
  else if (state.asked) words = "All answered. Press t to train on the answers.";
  $("waiting").textContent = words;
}

function setZoom(on) {
  $("frame").classList.toggle("zoomed", on);
  $("zoom").setAttribute("aria-pressed", String(on));
  if (on && current()) $("image").src = `images/${current().image_id}?side=2048`;
}

function setGrid(on) {
  if (on === isGrid()) return;
  $("grid").hidden = !on;
  if (on) grid.show();
  else at = next(at);
  show();
}

function showSaved(waiting, trouble) {
  const box = $("saved");
  box.classList.toggle("unsaved", Boolean(trouble));
  box.textContent = waiting ? `${waiting} not saved yet` : given.length ? "All saved" : "";
  $("trouble").hidden = !trouble && !outbox?.refused;
  $("trouble").textContent = trouble
    ? `Not saved yet: ${trouble}. The answers stay in this browser and are sent again; go on.`
    : outbox?.refused
      ? `An answer was refused: ${outbox.refused}`
      : "";
}

// --- any class by its name ---------------------------------------------------------------------

function search() {
  const words = $("find").value.trim().toLowerCase();
  const ranked = [[], [], []];
  for (let place = 0; words && place < folded.length; place++) {
    const where = folded[place].indexOf(words);
    if (where < 0) continue;
    ranked[where === 0 ? 0 : /[\s_-]/.test(folded[place][where - 1]) ? 1 : 2].push(place);
  }
  const found = ranked.flat().slice(0, FOUND);
  $("found").replaceChildren(
    ...found.map((place, row) => {
      const item = document.createElement("li");
      item.id = `found-${row}`;
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(row === 0));
      item.textContent = facts.classes[place];
      item.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        choose(facts.classes[place]);
      });
      return item;
    }),
  );
  $("found").hidden = found.length === 0;
  $("find").setAttribute("aria-expanded", String(found.length > 0));
  if (found.length) $("find").setAttribute("aria-activedescendant", "found-0");
  else $("find").removeAttribute("aria-activedescendant");
}

function choose(name) {
  $("find").blur();
  answer("label", name);
}

function searchKey(event) {
  const items = [...$("found").children];
  const now = items.findIndex((item) => item.getAttribute("aria-selected") === "true");
  if (event.key === "Escape") {
    $("find").value = "";
    search();
    $("find").blur();
  } else if (event.key === "Enter") {
    if (now >= 0) choose(items[now].textContent);
  } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (!items.length) return;
    const to = (now + (event.key === "ArrowDown" ? 1 : -1) + items.length) % items.length;
    items.forEach((item, row) => item.setAttribute("aria-selected", String(row === to)));
    items[to].scrollIntoView({ block: "nearest" });
    $("find").setAttribute("aria-activedescendant", items[to].id);
  } else return;
  event.preventDefault();
}

// --- keys --------------------------------------------------------------------------------------

const KEYS = {
  "/": () => $("find").select(),
  n: () => answer("none"),
  s: () => answer("skip"),
  u: undo,
  z: () => setZoom(!$("frame").classList.contains("zoomed")),
  g: () => setGrid(true),
  t: goOn,
  "?": () => $("help").showModal(),
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  Enter: () => current()?.label && answer("label", current().label),
};

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if ($("help").open) return;
  const { target } = event;
  if (target === $("find")) return searchKey(event);
  if (target.matches("input, select, textarea")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  if (event.repeat && !event.key.startsWith("Arrow")) return; // a key that is held is one answer
  if (isGrid()) {
    if (event.key === "g" || event.key === "Escape") setGrid(false);
    else if (event.key === "u") undo();
    else if (event.key === "Enter" && target.matches("#grid-class, #all, #to-one")) return;
    else if (!grid.key(event)) return;
    return event.preventDefault();
  }
  // Enter on a button presses that button.
  if (event.key === "Enter" && target.matches("button, summary")) return;
  const digit = Number(event.key);
  if (digit >= 1 && digit <= 9) $("likely").children[digit - 1]?.firstChild.click();
  else if (KEYS[event.key]) KEYS[event.key]();
  else return;
  event.preventDefault();
}

async function goOn() {
  const response = await post("go-on", {});
  tell(response.ok ? (await response.json()).said : await response.text());
  look();
}

// --- how far all are ---------------------------------------------------------------------------

async function look() {
  try {
    if (!facts.classes.length) await begin();
    state = await get(`state?annotator=${encodeURIComponent(annotator())}`);
    showState(state, open);
    grid.offer(state.classes);
    showCount();
    await fetchMore();
    showWaiting();
    if (!outbox.waiting.length) $("trouble").hidden = !outbox.refused;
  } catch (error) {
    const words = error instanceof TypeError ? "The server cannot be reached; answers stay in this browser." : error.message;
    $("trouble").hidden = false;
    $("trouble").textContent = words;
  }
}

async function begin() {
  facts = await get("facts");
  folded = facts.classes.map((name) => name.toLowerCase());
  $("title").textContent = facts.title;
  document.title = `${facts.title} · coft`;
  $("to-grid").disabled = false;
  if (outbox) return;
  const kept = localStorage.getItem("coft-annotator");
  $("annotator").value = kept || facts.annotator;
  outbox = new Outbox(facts.place, showSaved);
  grid = new Grid(
    (label, have, count) => (count > 0 ? wanted(count, have, label) : []),
    (questions, label) => record(questions, "label", label),
  );
}

function rename() {
  localStorage.setItem("coft-annotator", annotator());
  epoch++;
  list = [];
  at = 0;
  answers.clear();
  given.length = 0;
  show();
  look();
}

const PRESSED = {
  back: () => move(-1),
  on: () => move(1),
  zoom: KEYS.z,
  none: KEYS.n,
  skip: KEYS.s,
  undo,
  "to-grid": () => setGrid(true),
  "to-one": () => setGrid(false),
  "to-help": KEYS["?"],
  "go-on": goOn,
};
for (const [id, does] of Object.entries(PRESSED)) {
  $(id).addEventListener("click", () => {
    does();
    if (!isGrid() && document.activeElement?.tagName === "BUTTON") document.activeElement.blur();
  });
}
$("annotator").addEventListener("change", rename);
$("find").addEventListener("input", search);
$("find").addEventListener("blur", () => ($("found").hidden = true));
addEventListener("keydown", key);

await look();
show();
(async function watch() {
  for (;;) {
    await new Promise((done) => setTimeout(done, document.hidden ? 5 * LOOKS : LOOKS));
    await look();
  }
})();
