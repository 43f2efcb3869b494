// Elements, the tooltip, announcements and the theme. Text goes into the page by textContent only.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}
function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}
function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

// Controls, spaces that have no width, marks of direction, halves of surrogate pairs, and what no font shows.
const UNSEEN = /[\u0000-\u001f\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff]|\p{Cs}/gu;

/** Words for people: what cannot be seen is told by its number. */
function plain(text) {
  return String(text).replace(UNSEEN, (character) => {
    if (character === "\ufffd") return character;
    const code = character.codePointAt(0);
    return code < 0x80 ? "\\x" + code.toString(16).padStart(2, "0")
                       : "⟨U+" + code.toString(16).toUpperCase().padStart(4, "0") + "⟩";
  });
}
/** A token for people: its white space too. */
function visible(text) {
  return plain(text.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥"));
}
function tokenSpan(text) {
  return el("span", { class: "token", dir: "ltr", text: visible(text) });
}
/** The beginning of a text, at most `most` characters, whole code points. */
function shortened(text, most) {
  const characters = Array.from(text);
  return characters.length <= most ? characters.join("") : characters.slice(0, most - 1).join("") + "…";
}

/** A text without its middle, at most `most` characters: names of one series differ at their ends. */
function withoutMiddle(text, most) {
  const characters = Array.from(text), head = Math.floor((most - 1) / 3);
  return characters.length <= most ? text : characters.slice(0, head).join("") + "…" + characters.slice(characters.length - (most - 1 - head)).join("");
}

const tooltip = {
  node: document.getElementById("tooltip"),
  anchor: null,
  owner: null,
  /** What `owner` tells, beside the rectangle of the window that `anchor()` gives, also when that moves; hidden when it gives null. */
  show(owner, anchor, ...content) {
    this.owner = owner;
    this.anchor = anchor;
    this.node.replaceChildren(...content);
    this.node.hidden = false;
    this.place();
  },
  place() {
    if (this.node.hidden) return;
    const box = this.anchor(), gap = 10;
    if (!box) return this.hide();
    const own = this.node.getBoundingClientRect();
    const right = box.right + gap + own.width < innerWidth ? box.right + gap : box.left - gap - own.width;
    const left = Math.max(gap / 2, Math.min(right, innerWidth - own.width - gap / 2));
    const top = Math.max(gap / 2, Math.min(box.top, innerHeight - own.height - gap / 2));
    this.node.style.left = left + "px";
    this.node.style.top = top + "px";
  },
  hide() {
    this.dismiss();
    this.owner = null;
  },
  /** Hidden until another is to be told of, or the same one anew. */
  dismiss() { this.node.hidden = true; },
};

/**
 * After a key that went to another cell, what the page moves beneath a pointer at rest is not pointed at: no figure hears
 * of the pointer until it moves, is pressed or turns its wheel.
 */
function ignorePointerAtRest() {
  let place = null, ignored = false;
  addEventListener("keydown", (event) => { if (event.defaultPrevented || event.key === "Tab") ignored = true; });
  for (const name of ["pointerdown", "wheel"]) addEventListener(name, () => { ignored = false; }, { capture: true, passive: true });
  for (const name of ["pointerover", "pointerenter", "pointermove", "pointerleave"]) {
    addEventListener(name, (event) => {
      const here = `${event.screenX} ${event.screenY}`;
      if (here !== place) ignored = false;
      place = here;
      if (ignored) event.stopImmediatePropagation();
    }, { capture: true });
  }
}

function announce(text) {
  document.getElementById("announcement").textContent = text;
}

/** One of several values as radio buttons. */
function choice(title, options, chosen, onchoose) {
  const name = "choice-" + choice.count++;
  const boxes = options.map(([value, text]) => el("label", {},
    el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onchoose(value) }),
    el("span", { text })));
  return el("fieldset", { class: "choice" }, el("legend", { text: title }), el("div", {}, boxes));
}
choice.count = 0;

/** What has colours of its own or depends on the width is drawn anew when these change. */
const redraws = new Set();
function redrawAll() {
  tooltip.hide();
  for (const redraw of redraws) redraw();
}

const theme = {
  system: matchMedia("(prefers-color-scheme: dark)"),
  chosen: "auto",
  dark: false,
  /** Drawings are made for paper. */
  printing: false,
  apply(chosen) {
    this.chosen = chosen;
    this.dark = chosen === "dark" || (chosen === "auto" && this.system.matches);
    document.documentElement.dataset.theme = this.dark ? "dark" : "light";
    redrawAll();
  },
  start() {
    this.apply("auto");
    this.system.addEventListener("change", () => this.apply(this.chosen));
    let before = "auto";
    addEventListener("beforeprint", () => { before = this.chosen; this.printing = true; this.apply("light"); });
    addEventListener("afterprint", () => { this.printing = false; this.apply(before); });
  },
  control() {
    const control = choice("Colours", [["auto", "auto"], ["light", "light"], ["dark", "dark"]], "auto", (value) => this.apply(value));
    control.classList.add("theme");
    control.querySelector("legend").className = "unseen";
    return control;
  },
};
