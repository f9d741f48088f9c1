"use strict";
// The frame: address, top bar, keyboard. Everything that is chosen is in the address, so that a link shows the same again.
V.link = function (words, params, more) {
  const query = new URLSearchParams(params || {});
  for (const [key, value] of Object.entries(more || {})) query.set(key, value);
  const text = query.toString();
  return `#/${words.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
};
V.go = function (words, params, replace = false, more) {
  const next = V.link(words, params, more);
  if (!replace) { location.hash = next; return; }
  history.replaceState(null, "", next);
  V.route();
};
V.keep = (words, params) => history.replaceState(null, "", V.link(words, params));
V.without = function (params, ...keys) {
  const next = new URLSearchParams(params);
  keys.forEach((key) => next.delete(key));
  return next;
};
V.filterKey = function (params, filtersOnly = false) {
  const kept = [...V.FACETS, "rmin", "rmax", "instance", ...(filtersOnly ? [] : ["q", "sort"])];
  return kept.flatMap((key) => params.getAll(key).map((value) => `${key}=${value}`)).join("&");
};
V.copyLink = async function (event) {
  const button = event.currentTarget, label = button.textContent;
  try { await navigator.clipboard.writeText(location.href); V.fill(button, "copied"); } catch { V.fill(button, "it is in the address bar"); }
  setTimeout(() => V.fill(button, label), 1500);
};

V.app = { main: V.h("main"), bar: V.h("header.top"), cleanup: [], list: null, jump: null, order: null, searchDone: true };

V.parse = function () {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const words = path.split("/").filter(Boolean).map((word) => { try { return decodeURIComponent(word); } catch { return word; } });
  const run = words[0], page = !run ? "runs" : words[1] || "run";
  return { run, page, words: words.slice(2), params: new URLSearchParams(query || "") };
};

V.route = async function () {
  const app = V.app, state = V.parse(), ticket = (app.ticket = (app.ticket || 0) + 1);
  app.cleanup.splice(0).forEach((f) => f());
  Object.assign(app, { list: null, jump: null, state });
  app.main = V.h("main", { class: "loading" });
  const fresh = app.main;
  V.drawBar(app, state);
  const page = { g: "group" }[state.page] || state.page;
  document.title = [state.run, page === "run" || page === "runs" ? "" : page, "swe-master"].filter(Boolean).join(" · ");
  setTimeout(() => { if (app.ticket === ticket && !fresh.isConnected) V.showMain(fresh); }, 120);
  try {
    if (!V.pages[page]) throw new Error(`no page ${page}`);
    await V.pages[page](app, state);
  } catch (error) {
    if (app.ticket === ticket) V.fill(fresh, V.h("div.page", null, V.h("h1", null, "This cannot be shown"), V.h("p.warn", null, V.visible(error.message)), V.h("p", null, V.h("a", { href: state.run ? V.link([state.run]) : "#/" }, "back to the run"))));
  }
  if (app.ticket !== ticket) return;
  fresh.classList.remove("loading");
  if (!fresh.isConnected) V.showMain(fresh);
  fresh.dataset.ready = location.hash;
  const turn = app.list?.selected;
  if (state.page === "t" && turn >= 0) {
    app.list.choose(turn);
    setTimeout(() => { if (app.ticket === ticket) app.list.choose(app.list.selected); }, 200);  // cards above have got their height
  }
  if (app.list?.el && document.activeElement === document.body) app.list.el.focus({ preventScroll: true });
};
V.showMain = (main) => { document.querySelector("main")?.remove(); document.getElementById("app").append(main); };

V.drawBar = function (app, { run, page, params }) {
  const tabs = [["run", "Overview", []], ["trajectories", "Trajectories", ["trajectories"]], ["tasks", "Tasks", ["tasks"]], ["curves", "Curves", ["curves"]], ["timeline", "Timeline", ["timeline"]]];
  const current = { t: "trajectories", g: "trajectories", task: "tasks" }[page] || page;
  const box = V.h("input.search", { type: "search", id: "search", placeholder: "Search all text   /", "aria-label": "Search all text", value: params.get("q") || "", on: { keydown: (event) => {
    if (event.key === "Escape") { box.blur(); event.stopPropagation(); }
    if (event.key !== "Enter") return;
    box.blur();
    const next = page === "trajectories" ? V.without(params, "q", "sel") : new URLSearchParams();
    V.go([run, "trajectories"], next, false, box.value ? { q: box.value } : {});
  } } });
  V.fill(app.bar, V.h("a.brand", { href: "#/", title: "All runs" }, "swe-master"), run && V.h("a.runname", { href: V.link([run]) }, run), run && V.h("nav", null, tabs.map(([key, label, words]) => V.h(key === current ? "a.on" : "a", { href: V.link([run, ...words]) }, label))), V.h("span.spring"), run && box, V.h("button.help", { title: "Keyboard (?)", on: { click: V.toggleHelp } }, "?"));
};

V.KEYS = [["j k", "next, previous row, member or turn"], ["Enter", "open"], ["n p", "next, previous trajectory of the list"], ["g", "its group"], ["t", "text or tokens: mask, gap, log-prob, weights"], ["/", "search all text"], ["1 – 5", "overview, trajectories, tasks, curves, timeline"], ["r", "read the run again"], ["Esc", "back to the list; closes this"], ["?", "this help"]];
V.toggleHelp = function () {
  const open = document.querySelector(".overlay");
  if (open) { open.remove(); return; }
  document.body.append(V.h("div.overlay", { role: "dialog", "aria-label": "Keyboard", on: { click: V.toggleHelp } }, V.h("div.card", null, V.h("h2", null, "Keyboard"), V.h("dl.keys", null, V.KEYS.map(([keys, text]) => [V.h("dt", null, keys.split(" ").map((key) => key === "–" ? " – " : V.h("kbd", null, key))), V.h("dd", null, text)])))));
};

V.back = function () {
  const { run, page, params } = V.app.state;
  if (document.querySelector(".overlay")) return V.toggleHelp();
  if (page === "t" || page === "g") return V.go([run, "trajectories"], V.without(params, "turn", "tab", "tokens"));
  if (page === "task") return V.go([run, "tasks"]);
  if (page === "trajectories" && params.has("q")) return V.go([run, "trajectories"], V.without(params, "q", "sel"));
  if (page !== "run" && run) return V.go([run]);
};

V.onKey = function (event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { list, jump, state } = V.app, typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName || "");
  if (event.key === "Escape") { if (typing) document.activeElement.blur(); else V.back(); return; }
  if (typing) return;
  const pages = [[], ["trajectories"], ["tasks"], ["curves"], ["timeline"]];
  const actions = {
    j: () => list?.choose(list.selected + 1, true), k: () => list?.choose(Math.max(list.selected, 1) - 1, true),
    Enter: list && list.selected >= 0 && !/^(BUTTON|A|SUMMARY)$/.test(document.activeElement?.tagName || "") ? () => list.open?.(list.selected) : undefined,
    n: () => jump?.next(), p: () => jump?.previous(), g: () => jump?.group(),
    t: () => { if (state.page !== "t") return; const modes = V.TOKEN_MODES.map(([key]) => key), next = modes[(modes.indexOf(state.params.get("tokens") || "") + 1) % modes.length]; V.go([state.run, "t", ...state.words], V.without(V.parse().params, "tokens"), true, next ? { tokens: next } : {}); },
    "/": () => document.getElementById("search")?.focus(), "?": V.toggleHelp, r: () => { V.opened.clear(); V.route(); },
  };
  pages.forEach((words, i) => { actions[i + 1] = () => state.run && V.go([state.run, ...words]); });
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
};

V.loadExport();
document.getElementById("app").append(V.app.bar, V.app.main);
window.addEventListener("hashchange", V.route);
document.addEventListener("keydown", V.onKey);
V.route();
