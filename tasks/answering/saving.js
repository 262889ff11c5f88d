// Requests, and answers that wait in the browser until the server has them on its disk.

const RETRY = 1000; // milliseconds, twice as many after each failure, to LONGEST
const LONGEST = 15000;

export async function get(address) {
  const response = await fetch(address, { cache: "no-store" });
  if (!response.ok) throw new Error((await response.text()).trim());
  return response.json();
}

export async function post(address, body) {
  const headers = { "content-type": "application/json" };
  return fetch(address, { method: "POST", headers, body: JSON.stringify(body) });
}

// What was not sent yet outlives the tab; `told` hears how many wait, and why.
export class Outbox {
  constructor(place, told) {
    this.key = `coft-unsent ${place}`;
    this.told = told;
    this.sending = false;
    this.pause = RETRY;
    this.trouble = "";
    try {
      this.waiting = JSON.parse(localStorage.getItem(this.key)) || [];
    } catch {
      this.waiting = [];
    }
    addEventListener("online", () => this.send());
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length) event.preventDefault();
    });
    this.send();
  }

  add(annotator, answers) {
    this.waiting.push(...answers.map((answer) => ({ annotator, ...answer })));
    this.keep();
    this.told(this.waiting.length, this.trouble);
    this.send();
  }

  keep() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.waiting));
    } catch {
      // A browser that keeps nothing: they wait in the tab alone.
    }
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.waiting.length) {
      const { annotator } = this.waiting[0];
      const end = this.waiting.findIndex((one) => one.annotator !== annotator);
      const batch = this.waiting.slice(0, Math.min(end < 0 ? this.waiting.length : end, 200));
      this.trouble = await this.deliver(annotator, batch);
      if (this.trouble) {
        this.told(this.waiting.length, this.trouble);
        await new Promise((done) => setTimeout(done, this.pause));
        this.pause = Math.min(2 * this.pause, LONGEST);
        continue;
      }
      this.pause = RETRY;
      this.waiting.splice(0, batch.length);
      this.keep();
    }
    this.sending = false;
    this.told(0, "");
  }

  // Returns why answers did not arrive; those that the server cannot take are dropped, and said.
  async deliver(annotator, batch) {
    const answers = batch.map(({ image_id, kind, label }) => [image_id, kind, label]);
    try {
      const response = await post("answers", { annotator, answers });
      if (response.ok) return "";
      const words = (await response.text()).trim();
      if (response.status !== 400) return words || `the server says ${response.status}`;
      this.refused = words;
      return "";
    } catch {
      return "the server cannot be reached";
    }
  }
}
