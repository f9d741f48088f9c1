"use strict";
// Everything shown goes through h() and text nodes: what an agent or a repository wrote is never markup.
const V = { pages: {} };

// h("div.card", {title: "x", on: {click: f}, style: {"--w": "3px"}}, "text", node, [more])
V.h = function h(spec, props, ...children) {
  const [tag, ...classes] = spec.split(".");
  const svg = V.SVG_TAGS.has(tag);
  const el = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  if (classes.length) el.setAttribute("class", classes.join(" "));
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, f] of Object.entries(value)) el.addEventListener(event, f);
    else if (name === "style") for (const [key, v] of Object.entries(value)) el.style.setProperty(key, v);
    else if (name === "value") el.value = value;
    else if (name === "href" && !/^(#|\/report\/)/.test(value)) continue;
    else if (!/^on/i.test(name)) el.setAttribute(name, value === true ? "" : value);
  }
  V.append(el, children);
  return el;
};
V.SVG_TAGS = new Set(["svg", "g", "path", "polyline", "polygon", "line", "rect", "circle", "text"]);

V.append = function (el, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) V.append(el, child);
    else el.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return el;
};

V.fill = function (el, ...children) {
  el.replaceChildren();
  return V.append(el, children);
};

// Characters that would hide or reorder what is there are shown by name; ANSI colours go.
const ANSI = /\x1b\[[0-9;?]*[ -/]*[@-~]/g;
const HIDDEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
V.visible = function (text) {
  return String(text).replace(ANSI, "").replace(/\r\n/g, "\n")
    .replace(HIDDEN, (c) => `‹U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
};

// Text nodes with what was searched for marked. Upper and lower case as in the search itself.
V.marked = function (text, query) {
  text = V.visible(text);
  if (!query) return [text];
  const exact = query !== query.toLowerCase();
  const where = exact ? text : text.toLowerCase();
  if (where.length !== text.length) return [text];
  const nodes = [];
  let from = 0;
  for (let at = where.indexOf(query); at >= 0 && nodes.length < 2000; at = where.indexOf(query, from)) {
    nodes.push(text.slice(from, at), V.h("mark", null, text.slice(at, at + query.length)));
    from = at + query.length;
  }
  nodes.push(text.slice(from));
  return nodes;
};

V.num = (value, digits = 3) => value === null || value === undefined ? "–" : Number(value).toLocaleString("en", { maximumFractionDigits: digits });
V.signed = (value) => value === null || value === undefined ? "–" : (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toLocaleString("en", { maximumFractionDigits: 3 });
V.secs = function (s) {
  if (s === null || s === undefined) return "–";
  if (s === 0) return "0 s";
  if (s < 0.0995) return `${(s * 1000).toFixed(s < 0.00995 ? 1 : 0)} ms`;
  if (s < 99.5) return `${s.toFixed(s < 9.95 ? 2 : 1)} s`;
  const minutes = Math.round(s / 60);
  return minutes < 100 ? `${minutes} min` : `${(s / 3600).toFixed(1)} h`;
};
V.percent = (share) => Number.isFinite(share) ? `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %` : "–";

V.outcome = function (resolved) {
  const [cls, word] = resolved === true ? ["good", "resolved"] : resolved === false ? ["bad", "not resolved"] : ["none", "not graded"];
  return V.h(`span.dot.${cls}`, { title: word, role: "img", "aria-label": word });
};

// A long list of which only the visible rows exist. render(index) gives the content of a row.
V.VirtualList = class {
  constructor(rowHeight, render, { open, select } = {}) {
    Object.assign(this, { rowHeight, render, open, select, count: 0, selected: -1, rows: new Map() });
    this.space = V.h("div.vspace");
    this.el = V.h("div.vlist", { tabindex: "0", role: "listbox", on: { scroll: () => this.schedule() } }, this.space);
    this.observer = new ResizeObserver(() => this.schedule());
    this.observer.observe(this.el);
  }
  setRows(count, rowHeight = this.rowHeight) {
    this.count = count;
    this.rowHeight = rowHeight;
    this.space.style.height = `${count * rowHeight}px`;
    this.selected = Math.min(this.selected, count - 1);
    this.rows.clear();
    this.space.replaceChildren();
    this.paint();
  }
  schedule() {
    if (!this.pending) this.pending = requestAnimationFrame(() => { this.pending = 0; this.paint(); });
  }
  paint() {
    const top = this.el.scrollTop, height = this.el.clientHeight || 800;
    const first = Math.max(0, Math.floor(top / this.rowHeight) - 8);
    const last = Math.min(this.count, Math.ceil((top + height) / this.rowHeight) + 8);
    for (const [index, row] of this.rows) {
      if (index < first || index >= last) { row.remove(); this.rows.delete(index); }
    }
    for (let index = first; index < last; index++) {
      if (this.rows.has(index)) continue;
      const row = V.append(V.h("div.vrow", { role: "option", "data-index": index, on: { click: () => { this.choose(index); this.open?.(index); } } }), [this.render(index)]);
      row.style.transform = `translateY(${index * this.rowHeight}px)`;
      row.style.height = `${this.rowHeight}px`;
      row.classList.toggle("selected", index === this.selected);
      this.rows.set(index, row);
      this.space.append(row);
    }
  }
  choose(index, show = false) {
    if (!this.count) return;
    index = Math.max(0, Math.min(this.count - 1, index));
    this.rows.get(this.selected)?.classList.remove("selected");
    this.selected = index;
    if (show) {
      const top = index * this.rowHeight;
      if (top < this.el.scrollTop) this.el.scrollTop = top;
      else if (top + this.rowHeight > this.el.scrollTop + this.el.clientHeight) this.el.scrollTop = top + this.rowHeight - this.el.clientHeight;
      this.paint();
    }
    this.rows.get(index)?.classList.add("selected");
    this.select?.(index);
  }
  close() { this.observer.disconnect(); }
};
