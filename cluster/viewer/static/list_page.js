"use strict";
// The list of trajectories: facets at the left, rows at the right, all of it in the address.
V.LABELS = { stage: "Stage", outcome: "Outcome", stop: "Stop reason", step: "Step", policy: "Policy", repo: "Repository", instance: "Task" };
V.SORTS = [["", "as stored"], ["-reward", "reward, high first"], ["reward", "reward, low first"], ["-advantage", "advantage, high first"], ["advantage", "advantage, low first"], ["-turns", "most turns"], ["-tokens", "most tokens"], ["-seconds", "slowest"], ["task", "task"]];

V.advantageBar = function (value, scale = 1) {
  const bar = V.h("span.adv", { title: value === null ? "does not train" : `advantage ${V.signed(value)}` });
  if (value !== null) {
    const width = Math.min(Math.abs(value) / (scale || 1), 1) * 50;
    bar.append(V.h(`i.${value >= 0 ? "pos" : "neg"}`, { style: { width: `${width}%`, left: `${value >= 0 ? 50 : 50 - width}%` } }));
  }
  return bar;
};

V.rowCells = function (table, at, hit) {
  const r = table.rows;
  return V.h(hit ? "div.trow.hit" : "div.trow", null, V.outcome(r.resolved[at]),
    V.h("span.task", null, V.visible(table.name("instance", at)), V.h("span.quiet", null, ` #${r.sample_index[at]}`)),
    V.h("span.chip", null, table.name("stage", at) + (r.step[at] ? ` · ${r.step[at]}` : "")),
    V.h("span.n", null, V.num(r.reward[at])), V.advantageBar(r.advantage[at]), V.h("span.n.adv-n", null, V.signed(r.advantage[at])),
    V.h("span.n", null, V.num(r.num_turns[at])), V.h("span.n", null, V.num(r.num_tokens[at])), V.h("span.n", null, V.secs(r.seconds[at])),
    V.h(`span.stop.${table.name("stop", at) === "submitted" ? "plain" : "odd"}`, null, table.name("stop", at).replaceAll("_", " ")),
    hit && V.h("span.snippet", null, V.h("span.where", null, hit.turn >= 0 ? `turn ${hit.turn + 1} · ${hit.field === "text" ? "agent" : "tool"}` : hit.field.replace("_text", "")), " …", V.visible(hit.before), V.h("mark", null, V.visible(hit.match)), V.visible(hit.after), "… ", hit.count > 1 && V.h("span.quiet", null, `${hit.count} places`)));
};

V.pages.trajectories = async function (app, { run, params }) {
  const table = await V.table(run), query = params.get("q") || "";
  const hits = query ? new Map() : null, status = V.h("span.status", { role: "status" }), count = V.h("b.count");
  const facets = V.h("aside.facets");
  let shown = [];
  const list = new V.VirtualList(query ? 56 : 34, (index) => V.rowCells(table, shown[index], hits?.get(shown[index])), {
    open: (index) => V.openTrajectory(run, table, shown[index], params, hits?.get(shown[index])),
    select: (index) => { params.set("sel", table.id(shown[index])); V.keep([run, "trajectories"], params); },
  });
  const refresh = () => {
    shown = table.filtered(params, hits);
    app.order = { run, key: V.filterKey(params), rows: shown };
    V.fill(count, `${V.num(shown.length)} of ${V.num(table.size)}`);
    list.setRows(shown.length);
    V.fill(empty, shown.length ? null : V.h("p.quiet.pad", null, !table.size ? "no trajectory is stored yet" : hits && !app.searchDone ? "searching…" : "nothing fits these filters"));
  };
  const change = (edit) => { edit(params); params.delete("sel"); list.selected = -1; V.keep([run, "trajectories"], params); list.el.scrollTop = 0; refresh(); V.fillFacets(facets, table, params, change); };
  const sort = V.h("select", { "aria-label": "Sort", on: { change: (event) => change((p) => event.target.value ? p.set("sort", event.target.value) : p.delete("sort")) } },
    V.SORTS.map(([value, label]) => V.h("option", { value, selected: value === (params.get("sort") || "") }, label)));
  const header = V.h("div.trow.head", null, V.h("span"), ["task", "stage · step", "reward", "", "adv.", "turns", "tokens", "time", "ended by"].map((name, i) => V.h([2, 4, 5, 6, 7].includes(i) ? "span.n" : "span", null, name)));
  const empty = V.h("div");
  V.fill(app.main, V.h("div.listpage", null, facets, V.h("div.rows", null, V.h("div.toolbar", null, count, " trajectories", status, V.h("span.spring"), V.h("label", null, "sort ", sort), V.h("button", { title: "Copy a link to this view", on: { click: V.copyLink } }, "Copy link")), V.problemsBox(table.problems), V.h("div.headbox", null, header), empty, list.el)));
  V.fillFacets(facets, table, params, change);
  app.searchDone = !query;
  refresh();
  const wanted = params.get("sel"), slash = wanted?.lastIndexOf("/");
  if (wanted) { const place = shown.indexOf(table.at(wanted.slice(0, slash), wanted.slice(slash + 1))); if (place >= 0) list.choose(place, true); }
  app.list = list;
  app.cleanup.push(() => list.close());
  if (query) V.runSearch(app, run, table, params, query, hits, refresh, status);
};

V.runSearch = async function (app, run, table, params, query, hits, refresh, status) {
  const stop = new AbortController();
  app.cleanup.push(() => stop.abort());
  let painted = 0, dirty = false;
  const words = (text) => V.fill(status, ` · “${query}”: ${text}`);
  words("searching…");
  try {
    await V.search(run, query, V.values(params, "stage").size ? [...V.values(params, "stage")].join(",") : "", (line) => {
      if (stop.signal.aborted) return;
      if (line.hit) { const at = table.at(line.hit.shard, line.hit.row); if (at >= 0) { hits.set(at, line.hit); dirty = true; } }
      if (line.searched !== undefined && !line.done) words(`${V.num(hits.size)} hits in ${V.num(line.searched)} searched…`);
      if (line.done) { app.searchDone = true; words(`${V.num(line.hits)} hits in ${V.num(line.searched)} searched${line.cut ? `, ${line.cut}` : ""}${line.problems.length ? `, ${line.problems.length} files could not be read` : ""}`); }
      if (line.done || (dirty && performance.now() - painted > 250)) { painted = performance.now(); dirty = false; refresh(); }
    }, stop.signal);
  } catch (error) { if (!stop.signal.aborted) words(error.message); }
};

V.fillFacets = function (box, table, params, change) {
  const sections = V.FACETS.map((kind) => {
    const counts = table.counts(kind, params), chosen = V.values(params, kind);
    for (const name of chosen) if (!counts.has(name)) counts.set(name, 0);
    if (counts.size < 2 && !chosen.size) return null;
    const names = [...counts.keys()].sort(kind === "step" ? (a, b) => a - b : kind === "stage" ? () => 0 : (a, b) => counts.get(b) - counts.get(a) || a.localeCompare(b));
    const toggle = (name) => change((p) => { const next = V.values(p, kind); next.has(name) ? next.delete(name) : next.add(name); p.delete(kind); next.forEach((one) => p.append(kind, one)); });
    return V.h("section", { "data-facet": kind }, V.h("h3", null, V.LABELS[kind], chosen.size > 0 && V.h("button.clear", { title: "Clear", on: { click: () => change((p) => p.delete(kind)) } }, "clear")),
      V.h(kind === "step" ? "div.options.steps" : "div.options", null, names.map((name) => V.h(chosen.has(name) ? "button.option.on" : "button.option", { "aria-pressed": chosen.has(name) ? "true" : "false", "data-value": name, on: { click: () => toggle(name) } }, V.h("span.label", null, V.visible(name).replaceAll("_", " ")), V.h("span.n", null, V.num(counts.get(name)))))));
  });
  sections.splice(2, 0, V.rewardFacet(table, params, change));
  const instance = params.get("instance");
  if (instance) sections.unshift(V.h("section", null, V.h("h3", null, "Task", V.h("button.clear", { on: { click: () => change((p) => p.delete("instance")) } }, "clear")), V.h("div.options", null, V.h("span.option.on", null, V.h("span.label", null, V.visible(instance))))));
  const any = V.filterKey(params, true) !== "";
  V.fill(box, V.h("div.facethead", null, V.h("b", null, "Filters"), any && V.h("button.clear", { on: { click: () => change((p) => [...V.FACETS, "rmin", "rmax", "instance"].forEach((kind) => p.delete(kind))) } }, "clear all")), sections);
};

V.rewardFacet = function (table, params, change) {
  const tests = table.tests(params, "reward"), values = [];
  for (let at = 0; at < table.size; at++) if (table.rows.reward[at] !== null && tests.every((test) => test(at))) values.push(table.rows.reward[at]);
  if (!values.length) return null;
  const all = table.rows.reward.filter((v) => v !== null), low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b)), bins = new Array(12).fill(0);
  values.forEach((v) => { bins[Math.min(11, Math.floor((12 * (v - low)) / (high - low || 1)))] += 1; });
  const peak = Math.max(...bins), edge = (i) => low + ((high - low) * i) / 12;
  const input = (key, label) => V.h("input", { type: "number", step: "any", "aria-label": label, placeholder: V.num(key === "rmin" ? low : high), value: params.get(key) ?? "", on: { change: (event) => change((p) => event.target.value === "" ? p.delete(key) : p.set(key, event.target.value)) } });
  const set = (i) => change((p) => { p.set("rmin", String(Number(edge(i).toFixed(4)))); p.set("rmax", String(Number(edge(i + 1).toFixed(4)))); });
  return V.h("section", { "data-facet": "reward" }, V.h("h3", null, "Reward", (params.has("rmin") || params.has("rmax")) && V.h("button.clear", { on: { click: () => change((p) => { p.delete("rmin"); p.delete("rmax"); }) } }, "clear")),
    V.h("div.histogram", null, bins.map((n, i) => V.h("button", { title: `${V.num(edge(i))} to ${V.num(edge(i + 1))}: ${V.num(n)}`, on: { click: () => set(i) } }, V.h("i", { style: { height: `${n ? Math.max(4, (100 * n) / peak) : 0}%` } })))),
    V.h("div.range", null, input("rmin", "Smallest reward"), " to ", input("rmax", "Largest reward")));
};
