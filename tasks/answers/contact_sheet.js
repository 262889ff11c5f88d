"use strict";
// The kind is saved beside the label, so that a class may be called "skip".
const facts = JSON.parse(document.getElementById("facts").textContent);
const others = [["skip", "skip"], ["none", "none of these classes"]];
const cards = [...document.querySelectorAll("article")];
const answers = new Map();
let saved = true;

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

function note(card, select) {
  const chosen = select.selectedOptions[0];
  const id = card.dataset.imageId;
  if (chosen && chosen.dataset.kind) {
    answers.set(id, [chosen.dataset.kind, chosen.dataset.name, new Date().toISOString()]);
  } else {
    answers.delete(id);
  }
  saved = false;
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
  card.querySelector(".agree").addEventListener("click", () => {
    fill(select);
    select.value = "label:" + card.dataset.predicted;
    note(card, select);
  });
}
document.querySelector("form").addEventListener("submit", save);
window.addEventListener("beforeunload", (event) => {
  if (!saved && answers.size) event.preventDefault();
});
