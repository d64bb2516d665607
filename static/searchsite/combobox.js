// Suggestions while typing: a combobox with a list, as ARIA 1.2 describes it. The form works without.
const WAIT_MS = 120;

class Combobox {
  constructor(form) {
    this.form = form;
    this.input = form.querySelector("input");
    this.list = document.createElement("div");
    Object.assign(this.list, { id: "suggestions", className: "listbox", hidden: true });
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "Suggestions");
    form.append(this.list);
    for (const [name, value] of Object.entries({
      role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": "suggestions",
    })) this.input.setAttribute(name, value);
    this.announcer = document.getElementById("announcer");
    this.at = -1;
    this.typed = this.input.value;
    this.input.addEventListener("input", () => this.schedule());
    this.input.addEventListener("keydown", (event) => this.onKey(event));
    this.input.addEventListener("focus", () => { if (this.options.length && this.input.value === this.shownFor) this.open(); });
    form.addEventListener("focusout", (event) => { if (!form.contains(event.relatedTarget)) this.close(); });
    this.list.addEventListener("mousedown", (event) => event.preventDefault()); // keeps the focus in the input
    this.list.addEventListener("click", () => this.close());
  }

  get options() { return [...this.list.querySelectorAll('[role="option"]')]; }
  get isOpen() { return !this.list.hidden; }

  schedule() {
    this.typed = this.input.value;
    this.cancel();
    if (!this.typed.trim()) return this.close();
    this.timer = setTimeout(() => this.load(this.typed), WAIT_MS);
  }

  cancel() {
    clearTimeout(this.timer);
    this.request?.abort();
  }

  async load(text) {
    this.request = new AbortController();
    try {
      const url = `${this.form.dataset.suggestions}?${new URLSearchParams({ q: text })}`;
      const response = await fetch(url, { signal: this.request.signal });
      if (!response.ok) return this.close();
      const html = await response.text();
      if (text === this.input.value && this.form.contains(document.activeElement)) this.show(html, text);
    } catch (error) {
      if (error.name !== "AbortError") this.close(); // no suggestions now: searching still works
    }
  }

  show(html, text) {
    this.list.innerHTML = html; // the server's own, escaped there
    this.shownFor = text;
    this.options.forEach((option, number) => {
      option.id = `suggestion-${number}`;
      option.setAttribute("aria-selected", "false");
    });
    this.list.querySelectorAll("[data-mark]").forEach((element) => mark(element, text));
    this.at = -1;
    this.input.removeAttribute("aria-activedescendant");
    const count = this.options.length;
    count ? this.open() : this.close();
    this.announcer.textContent = count ? `${count} suggestion${count === 1 ? "" : "s"}` : "No suggestions";
  }

  open() { this.list.hidden = false; this.input.setAttribute("aria-expanded", "true"); }

  close() {
    this.cancel(); // what is still on its way must not open the list again
    this.list.hidden = true;
    this.at = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  move(to) {
    const options = this.options;
    options[this.at]?.setAttribute("aria-selected", "false");
    this.at = to < -1 ? options.length - 1 : to >= options.length ? -1 : to; // past either end: back to what was typed
    const option = options[this.at];
    this.input.value = option?.dataset.text ?? this.typed;
    if (!option) return this.input.removeAttribute("aria-activedescendant");
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", option.id);
  }

  release() {
    // The caret moves in the text: what is written there now is what was typed.
    this.options[this.at]?.setAttribute("aria-selected", "false");
    this.at = -1;
    this.typed = this.input.value;
    this.input.removeAttribute("aria-activedescendant");
  }

  onKey(event) {
    if (event.isComposing) return;
    if (event.key === "Escape" && this.isOpen) {
      event.preventDefault();
      this.input.value = this.typed;
      this.close();
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      if (!this.options.length) return;
      event.preventDefault();
      if (!this.isOpen) this.open();
      this.move(this.at + (event.key === "ArrowDown" ? 1 : -1));
    } else if (event.key === "Enter" && this.isOpen && this.at >= 0) {
      event.preventDefault();
      location.href = this.options[this.at].href;
    } else if (["Home", "End", "ArrowLeft", "ArrowRight"].includes(event.key)) {
      this.release();
    } else if (event.key === "Tab" || event.key === "Enter") {
      this.close();
    }
  }
}

function mark(element, text) {
  // The typed words stand out; built from text nodes, so no text becomes markup.
  const words = text.trim().split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const parts = element.textContent.split(new RegExp(`(${words.join("|")})`, "iu"));
  element.replaceChildren(...parts.filter(Boolean).map((part, number) => {
    if (!new RegExp(`^(?:${words.join("|")})$`, "iu").test(part)) return document.createTextNode(part);
    const marked = document.createElement("mark");
    marked.textContent = part;
    return marked;
  }));
}

document.querySelectorAll("form[data-suggestions]").forEach((form) => new Combobox(form));
