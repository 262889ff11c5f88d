// What came of the answers: the next round, what the last ones brought, who agrees with whom.

const $ = (id) => document.getElementById(id);
const percent = (share) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)} %`);

function cells(kind, texts) {
  const row = document.createElement("tr");
  for (const text of texts) {
    const cell = document.createElement(kind);
    cell.textContent = text;
    row.append(cell);
  }
  return row;
}

function table(head, rows) {
  const made = document.createElement("table");
  made.append(cells("th", head), ...rows.map((row) => cells("td", row)));
  return made;
}

function curve(values, title) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 180 64");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", title);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const at = (value, place) => [
    values.length > 1 ? 4 + (172 * place) / (values.length - 1) : 90,
    high > low ? 58 - (52 * (value - low)) / (high - low) : 32,
  ];
  const points = values.map(at);
  const line = document.createElementNS(space, "polyline");
  line.setAttribute("points", points.map((point) => point.join(",")).join(" "));
  svg.append(line);
  for (const [x, y] of points) {
    const dot = document.createElementNS(space, "circle");
    dot.setAttribute("cx", x);
    dot.setAttribute("cy", y);
    dot.setAttribute("r", 3);
    svg.append(dot);
  }
  return svg;
}

function showRounds(rounds) {
  if (!rounds?.length) return $("rounds").replaceChildren();
  const hasAccuracy = rounds.some((one) => one.accuracy !== null);
  const last = hasAccuracy ? "accuracy" : "changed";
  const rows = rounds.slice(-6).map((one) => [
    one.number,
    one.num_labels,
    percent(hasAccuracy ? one.accuracy : one.churn),
  ]);
  const parts = [table(["round", "answers", last], rows)];
  const values = rounds.map((one) => (hasAccuracy ? one.accuracy : one.churn)).filter((one) => one !== null);
  const title = hasAccuracy ? "Accuracy of each round" : "Share of predictions that each round changed";
  if (values.length > 1) parts.unshift(curve(values, title));
  $("rounds").replaceChildren(...parts);
}

function showPeople({ annotators, agreement }) {
  const names = Object.keys(annotators);
  if (names.length < 2) return $("people").replaceChildren();
  const rows = names.map((name) => [name, annotators[name]]);
  if (agreement.several) {
    const share = percent(agreement.same / agreement.several);
    rows.push([`agree on ${agreement.same} of ${agreement.several}`, share]);
  }
  $("people").replaceChildren(table(["who", "answers"], rows));
}

// A list that somebody reads or has the focus in is not made anew unless it has changed.
let shownConflicts = "";
function showConflicts({ conflicts, num_conflicts: number }, open) {
  const box = $("conflicts");
  const now = JSON.stringify(conflicts);
  if (now === shownConflicts) return;
  shownConflicts = now;
  box.hidden = number === 0;
  box.querySelector("summary").textContent =
    number === 1 ? "1 image with answers that contradict each other" : `${number} images with answers that contradict each other`;
  box.querySelector("ul").replaceChildren(
    ...conflicts.map(({ image_id, votes }) => {
      const item = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = votes;
      button.addEventListener("click", () => open(image_id));
      item.append(button);
      return item;
    }),
  );
}

function words(state) {
  if (state.failure) return `The round failed: ${state.failure}`;
  if (state.training !== null && state.training !== undefined) {
    return `Round ${state.training} is being made. ${state.lines.at(-1) || ""}`;
  }
  if (state.finished) return "Finished: the budget is spent, or nothing is left to ask.";
  if (!state.trains_at) return "";
  const missing = Math.max(0, state.trains_at - state.done);
  return missing ? `The next round begins by itself after ${missing} more.` : "";
}

export function showState(state, open) {
  $("next").hidden = state.rounds === undefined;
  $("training").textContent = words(state);
  $("go-on").disabled = state.training !== null;
  showRounds(state.rounds);
  showPeople(state);
  showConflicts(state, open);
  $("measured").replaceChildren(
    ...(state.measured || []).map((line) => {
      const text = document.createElement("p");
      text.textContent = line;
      return text;
    }),
  );
}
