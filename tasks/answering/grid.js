// Many images that the model takes for one class, accepted at once.

const AT_ONCE = 60;
const $ = (id) => document.getElementById(id);

export class Grid {
  // `fetchMore(label, have)` returns questions, `accept(questions, label)` answers them.
  constructor(fetchMore, accept) {
    this.fetchMore = fetchMore;
    this.accept = accept;
    this.tiles = [];
    this.marking = null; // what a drag does: mark, or take marks away
    this.last = 0;
    $("grid-class").addEventListener("change", () => this.show());
    $("all").addEventListener("click", () => this.markAll());
    $("accept").addEventListener("click", () => this.done());
    const tiles = $("tiles");
    tiles.addEventListener("pointerdown", (event) => this.press(event));
    tiles.addEventListener("pointerover", (event) => this.drag(event));
    addEventListener("pointerup", () => (this.marking = null));
    tiles.addEventListener("click", (event) => {
      // A pointer has marked it already; a key has not.
      if (event.detail === 0) this.toggle(this.at(event.target));
    });
  }

  offer(classes) {
    const select = $("grid-class");
    const names = Object.keys(classes);
    const now = select.value;
    if (document.activeElement === select) return;
    select.replaceChildren(
      ...names.map((name) => new Option(`${name} (${classes[name]})`, name, false, name === now)),
    );
    if (select.value !== now && !$("grid").hidden && !this.tiles.length) this.show();
  }

  async show() {
    this.tiles = [];
    this.last = 0;
    $("tiles").replaceChildren();
    await this.more();
  }

  async more() {
    const label = $("grid-class").value;
    const have = this.tiles.map((tile) => tile.question.image_id);
    const found = label ? await this.fetchMore(label, have, AT_ONCE - have.length) : [];
    for (const question of found) this.add(question);
    $("grid-empty").hidden = this.tiles.length > 0;
    this.count();
  }

  add(question) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "option");
    button.setAttribute("aria-selected", "false");
    const share = question.confidence === null ? "" : `, ${Math.round(100 * question.confidence)} %`;
    button.setAttribute("aria-label", `Image ${this.tiles.length + 1}${share}`);
    const image = new Image();
    image.src = `images/${question.image_id}?side=160`;
    image.alt = "";
    image.draggable = false;
    button.append(image);
    $("tiles").append(button);
    this.tiles.push({ question, button });
  }

  at(target) {
    return this.tiles.findIndex((tile) => tile.button.contains(target));
  }

  isMarked(place) {
    return this.tiles[place].button.getAttribute("aria-selected") === "true";
  }

  mark(place, value) {
    this.tiles[place].button.setAttribute("aria-selected", String(value));
    this.count();
  }

  toggle(place) {
    if (place < 0) return;
    this.mark(place, !this.isMarked(place));
    this.last = place;
  }

  press(event) {
    const place = this.at(event.target);
    if (place < 0 || event.button) return;
    event.target.releasePointerCapture?.(event.pointerId);
    if (event.shiftKey) {
      const [from, to] = [Math.min(this.last, place), Math.max(this.last, place)];
      for (let one = from; one <= to; one++) this.mark(one, true);
      return;
    }
    this.toggle(place);
    this.marking = this.isMarked(place);
  }

  drag(event) {
    const place = this.at(event.target);
    if (this.marking === null || place < 0) return;
    this.mark(place, this.marking);
    this.last = place;
  }

  markAll() {
    const all = this.tiles.every((_, place) => this.isMarked(place));
    this.tiles.forEach((_, place) => this.mark(place, !all));
  }

  count() {
    const marked = this.tiles.filter((_, place) => this.isMarked(place)).length;
    $("accept").disabled = marked === 0;
    $("accept").firstChild.textContent = marked ? `Accept ${marked} ` : "Accept ";
  }

  async done() {
    const label = $("grid-class").value;
    const marked = this.tiles.filter((_, place) => this.isMarked(place));
    if (!marked.length) return;
    this.accept(marked.map((tile) => tile.question), label);
    this.tiles = this.tiles.filter((tile) => !marked.includes(tile));
    marked.forEach((tile) => tile.button.remove());
    await this.more();
    this.tiles[0]?.button.focus();
  }

  key(event) {
    const place = this.at(document.activeElement);
    const columns = getComputedStyle($("tiles")).gridTemplateColumns.split(" ").length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (event.key in steps) {
      const to = place < 0 ? 0 : place + steps[event.key];
      if (!this.tiles[to]) return true;
      this.tiles[to].button.focus();
      if (event.shiftKey) {
        if (place >= 0) this.mark(place, true);
        this.mark(to, true);
        this.last = to;
      }
    } else if (event.key === "Enter") this.done();
    else if (event.key === "a") this.markAll();
    else return false;
    return true;
  }
}
