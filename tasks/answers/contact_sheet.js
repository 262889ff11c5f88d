"use strict";
// The kind is saved beside the label, so that a class may be called "skip".
const facts = JSON.parse(document.getElementById("facts").textContent);
const others = [["skip", "skip"], ["none", "none of these classes"]];
const cards = [...document.querySelectorAll("article")];
const answers = new Map();
const given = []; // cards in the order of their answers, to undo
// What is not downloaded yet outlives the tab, where the browser keeps anything for a file.
const place = `coft-sheet ${facts.round} ${cards.map((card) => card.dataset.imageId.slice(0, 8)).join("")}`;
let saved = true;
let at = 0;

function option(kind, text) {
  const item = new Option(text, kind + ":" + text);
  item.dataset.kind = kind;
  item.dataset.name = text; // `text` of an option has its spaces collapsed
  return item;
}

// A list is filled when it is first needed: a thousand lists of a thousand classes would stall.
function fill(select) {
  if (select.length > 1) return;
  select.append(...facts.classes.map((name) => option("label", name)));
  select.append(document.createElement("hr"), ...others.map(([kind, text]) => option(kind, text)));
}

function keep() {
  try {
    localStorage.setItem(place, JSON.stringify([...answers]));
  } catch {
    // It keeps nothing: the page asks before it is closed.
  }
}

function restore() {
  let kept = [];
  try {
    kept = JSON.parse(localStorage.getItem(place)) || [];
  } catch {
    return;
  }
  for (const [id, [kind, name, time]] of kept) {
    const card = cards.find((one) => one.dataset.imageId === id);
    if (!card) continue;
    choose(card, kind, name);
    if (answers.has(id)) answers.set(id, [kind, name, time]);
  }
}

function choose(card, kind, name) {
  const select = card.querySelector("select");
  fill(select);
  select.value = kind ? kind + ":" + name : "";
  note(card, select);
}

function note(card, select) {
  const chosen = select.selectedOptions[0];
  const id = card.dataset.imageId;
  if (chosen && chosen.dataset.kind) {
    answers.set(id, [chosen.dataset.kind, chosen.dataset.name, new Date().toISOString()]);
  } else {
    answers.delete(id);
  }
  saved = false;
  given.push(card);
  keep();
  card.classList.toggle("done", answers.has(id));
  document.getElementById("count").textContent = `${answers.size} of ${cards.length} answered`;
  document.getElementById("save").disabled = answers.size === 0;
}

function quote(text) {
  return '"' + String(text).replaceAll('"', '""') + '"';
}

function toCsv() {
  const annotator = document.getElementById("annotator").value.trim();
  const rows = [["image_id", "label", "kind", "annotator", "answered_at"]];
  for (const card of cards) {
    const answer = answers.get(card.dataset.imageId);
    if (answer) rows.push([card.dataset.imageId, answer[1], answer[0], annotator, answer[2]]);
  }
  return rows.map((row) => row.map(quote).join(",") + "\r\n").join("");
}

function save(event) {
  event.preventDefault();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([toCsv()], { type: "text/csv" }));
  link.download = `answers-round-${facts.round}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  saved = true;
}

for (const card of cards) {
  const select = card.querySelector("select");
  for (const name of ["focus", "pointerdown", "mouseenter"]) {
    select.addEventListener(name, () => fill(select));
  }
  select.addEventListener("change", () => note(card, select));
  card.querySelector(".agree").addEventListener("click", () => choose(card, "label", card.dataset.predicted));
  card.querySelectorAll(".likely button").forEach((button) => {
    button.addEventListener("click", () => choose(card, "label", button.dataset.name));
  });
  card.addEventListener("focusin", () => go(cards.indexOf(card), false));
}

// The keys of the page of `coft active label`, on the card that is marked.
function go(to, scroll = true) {
  if (!cards[to]) return;
  cards[at].classList.remove("now");
  at = to;
  cards[at].classList.add("now");
  if (scroll) cards[at].scrollIntoView({ block: "center" });
}

function answer(kind, name) {
  choose(cards[at], kind, name);
  let next = at + 1;
  while (cards[next] && answers.has(cards[next].dataset.imageId)) next++;
  go(next);
}

function undo() {
  const card = given.pop();
  if (!card) return;
  choose(card, "", "");
  given.pop(); // taking back is no answer
  go(cards.indexOf(card));
}

const keys = {
  Enter: () => cards[at].dataset.predicted && answer("label", cards[at].dataset.predicted),
  n: () => answer(...others[1]),
  s: () => answer(...others[0]),
  u: undo,
  "/": () => cards[at].querySelector("select").focus(),
  ArrowLeft: () => go(at - 1),
  ArrowRight: () => go(at + 1),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !cards.length) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.target.matches("button") && event.key === "Enter") return;
  const digit = Number(event.key);
  const likely = cards[at].querySelectorAll(".likely button");
  if (digit >= 1 && likely[digit - 1]) answer("label", likely[digit - 1].dataset.name);
  else if (keys[event.key]) keys[event.key]();
  else return;
  event.preventDefault();
});

if (cards.length) go(0, false);
restore();
given.length = 0;
saved = answers.size === 0;
document.querySelector("form").addEventListener("submit", save);
window.addEventListener("beforeunload", (event) => {
  if (!saved && answers.size) event.preventDefault();
});
