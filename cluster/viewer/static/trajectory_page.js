"use strict";
// One trajectory: prompt, turns with calls and answers, tokens coloured, patch against the reference, hidden tests.
V.TOKEN_MODES = [["", "text"], ["mask", "loss mask"], ["gap", "learner − engine"], ["engine", "engine log-prob"], ["version", "weights"]];
V.TABS = [["turns", "Turns"], ["patch", "Patch"], ["tests", "Tests"], ["facts", "Facts"]];

V.openTrajectory = function (run, table, at, params, hit) {
  const next = new URLSearchParams(params);
  ["sel", "turn", "tab"].forEach((key) => next.delete(key));
  if (hit && hit.turn >= 0) next.set("turn", hit.turn + 1);
  if (hit && hit.turn < 0 && hit.field !== "prompt" && hit.field) next.set("tab", hit.field === "patch" ? "patch" : "tests");
  V.go([run, "t", ...table.id(at).split("/")], next);
};

V.pages.t = async function (app, { run, words, params }) {
  const table = await V.table(run), shard = words.slice(0, -1).join("/"), row = words.at(-1), at = table.at(shard, row);
  if (at < 0) throw new Error(`no trajectory ${shard}/${row} in this run`);
  const episode = await V.api("trajectory", run, table.id(at)), r = table.rows, group = r.group[at];
  const order = app.order?.run === run && app.order.key === V.filterKey(params) ? app.order.rows : table.filtered(params);
  const place = order.indexOf(at), step = (by) => { const next = order[place + by]; if (next !== undefined) V.openTrajectory(run, table, next, params); };
  app.jump = { next: () => step(1), previous: () => step(-1), group: () => V.go([run, "g", ...table.groupId(group).split("/")], params) };
  const tab = params.get("tab") || "turns", body = V.h("div.tabbody");
  const tabs = V.h("div.tabs", { role: "tablist" }, V.TABS.map(([key, label]) => V.h(key === tab ? "a.on" : "a", { role: "tab", href: V.link([run, "t", ...words], V.without(params, "tab", "turn"), key === "turns" ? {} : { tab: key }) }, label)));
  V.fill(app.main, V.h("div.page.trajectory", null,
    V.h("div.titleline", null, V.outcome(r.resolved[at]), V.h("h1", null, V.visible(episode.instance_id), V.h("span.quiet", null, ` #${episode.sample_index}`)),
      V.h("span.chip", null, table.name("stage", at) + (r.step[at] ? ` · step ${r.step[at]}` : "")), V.h("a.button", { href: V.link([run, "g", ...table.groupId(group).split("/")], params) }, `Group of ${table.groups.members[group]}`), V.h("a.button", { href: V.link([run, "task", episode.instance_id]) }, "Task"),
      V.h("span.spring"), V.h("button", { title: "p", disabled: place <= 0, on: { click: () => step(-1) } }, "‹ previous"), V.h("span.quiet", null, place >= 0 ? `${V.num(place + 1)} of ${V.num(order.length)}` : ""), V.h("button", { title: "n", disabled: place < 0 || place + 1 >= order.length, on: { click: () => step(1) } }, "next ›")),
    V.h("div.factline", null, [["reward", V.num(r.reward[at])], ["advantage", V.signed(r.advantage[at])], ["ended by", table.name("stop", at).replaceAll("_", " ")], ["turns", V.num(r.num_turns[at])], ["tokens", V.num(r.num_tokens[at])], ["time", V.secs(r.seconds[at])], ["policy", table.name("policy", at)]].map(([key, value]) => V.h("span", null, V.h("small", null, key), V.h("b", null, V.visible(value)))), r.train[at] === false && V.h("span.warn", null, "does not train")),
    episode.problem && V.problemsBox([episode.problem]), tabs, body));
  const fill = { turns: V.turnsTab, patch: V.patchTab, tests: V.testsTab, facts: V.factsTab }[tab] || V.turnsTab;
  await fill(app, body, { run, table, at, episode, params, words });
};

V.patchTab = (app, body, { episode }) => V.fill(body, V.diffPair(episode.patch, episode.gold_patch));
V.testsTab = function (app, body, { episode, params }) {
  const order = { error: 0, failed: 1, missing: 2 }, tests = [...episode.tests].sort((a, b) => (order[a[2]] ?? 9) - (order[b[2]] ?? 9));
  V.fill(body, tests.length > 0 && V.h("table.grid.tests", null, V.h("thead", null, V.h("tr", null, ["status", "hidden test", "list"].map((name) => V.h("th", null, name)))), V.h("tbody", null, tests.map(([name, kind, status]) => V.h("tr", null, V.h("td", null, V.h(`span.status-${status.replace(" ", "-")}`, null, status)), V.h("td", null, V.h("code", null, V.visible(name))), V.h("td.quiet", null, kind.replaceAll("_", " ")))))),
    V.h("h3", null, "log of the hidden tests"), episode.report_text ? V.h("pre.code", null, V.marked(episode.report_text, params.get("q"))) : V.h("p.quiet", null, "no log is stored"));
};
V.factsTab = function (app, body, { episode }) {
  const skip = new Set(["turns", "prompt", "patch", "gold_patch", "report_text", "tests", "problem", "observed"]);
  const rows = Object.entries(episode).filter(([key]) => !skip.has(key));
  V.fill(body, V.h("dl.facts", null, rows.map(([key, value]) => [V.h("dt", null, key), V.h("dd", null, V.visible(typeof value === "object" ? JSON.stringify(value) : value))])),
    episode.observed && [V.h("h3", null, "what the episode last saw a command print after its last edit"), V.h("pre.code", null, V.visible(episode.observed))]);
};

V.longBox = function (cls, nodes, length) {
  const box = V.h(`pre.${cls}`, null, nodes);
  if (length < 4000) return box;
  box.classList.add("cut");
  const button = V.h("button.more", { on: { click: () => { box.classList.remove("cut"); button.remove(); } } }, `show all, ${V.num(length)} characters`);
  return V.h("div", null, box, button);
};
V.callBox = function (turn, query) {
  const call = V.toolCall(turn.action || ""), at = turn.text.search(/<function=|<tool_call>/);
  if (!call || at < 0) return [V.longBox("say", V.marked(turn.text, query), turn.text.length), !turn.action && V.h("p.warn.small", null, "no tool call was found in this turn")];
  const thought = turn.text.slice(0, at).trim(), end = turn.text.slice(at).match(/<\/(function|tool_call)>/), after = end ? turn.text.slice(at + end.index + end[0].length).trim() : "";
  return [thought && V.longBox("say", V.marked(thought, query), thought.length),
    V.h("div.call", null, V.h("b.fn", null, V.visible(call.name)), call.parameters.map(([key, value]) => V.h("div.arg", null, V.h("span.key-name", null, V.visible(key)), V.longBox("value", V.marked(value, query), value.length)))),
    after && V.longBox("say.after", V.marked(after, query), after.length)];
};

V.turnsTab = async function (app, body, { run, table, at, episode, params, words }) {
  const mode = params.get("tokens") || "", query = params.get("q") || "", turns = episode.turns;
  const setMode = (value) => V.go([run, "t", ...words], V.without(params, "tokens"), true, value ? { tokens: value } : {});
  const legend = V.h("span.legend"), train = table.rows.train[at] !== false;
  const buttons = V.h("div.segments", { role: "group", "aria-label": "How turns are shown" }, V.TOKEN_MODES.map(([key, label]) => V.h(key === mode ? "button.on" : "button", { "data-mode": key || "text", on: { click: () => setMode(key) } }, label)));
  const cards = turns.map((turn, i) => V.h("article.turn", { id: `turn-${i + 1}`, "data-turn": i + 1 },
    V.h("header", null, V.h("a.turn-no", { href: V.link([run, "t", ...words], V.without(params, "turn"), { turn: i + 1 }) }, i + 1), V.h("span.quiet.small", null, `${V.num(turn.completion_tokens)} tokens in ${V.secs(turn.generate_s)}`, turn.observation ? ` · tool ${V.secs(turn.tool_s)}` : "")),
    V.h(train ? "div.agent" : "div.agent.masked", null, V.callBox(turn, query)),
    turn.observation && V.h("div.tool", null, V.longBox("obs", V.marked(turn.observation, query), turn.observation.length))));
  const rail = V.h("nav.rail", { "aria-label": "Turns" }, turns.map((turn, i) => V.h("a", { href: V.link([run, "t", ...words], V.without(params, "turn"), { turn: i + 1 }), "data-rail": i + 1 }, V.h("span.turn-no", null, i + 1), V.h("span.label", null, V.visible(V.callLine(turn))))));
  V.fill(body, V.h("div.modes", null, buttons, legend), V.h("div.withrail", null, rail, V.h("div.turns", null, V.h("article.turn.prompt", null, V.h("header", null, V.h("b", null, "Issue")), V.longBox("obs", V.marked(episode.prompt, query), episode.prompt.length)), cards)));
  app.list = V.turnList(cards, rail, (i) => { params.set("turn", i + 1); V.keep([run, "t", ...words], params); });
  const wanted = Number(params.get("turn"));
  if (wanted >= 1 && wanted <= cards.length) app.list.choose(wanted - 1);
  if (mode) await V.showTokens(app, run, table.id(at), mode, cards, legend);
};

V.turnList = (cards, rail, keep) => ({
  selected: -1, count: cards.length, close() {},
  choose(index) {
    cards[this.selected]?.classList.remove("selected");
    rail.children[this.selected]?.classList.remove("on");
    this.selected = Math.max(0, Math.min(cards.length - 1, index));
    cards[this.selected]?.classList.add("selected");
    cards[this.selected]?.scrollIntoView({ block: "start" });
    rail.children[this.selected]?.classList.add("on");
    rail.children[this.selected]?.scrollIntoView({ block: "nearest" });
    keep(this.selected);
  },
});

// Colours a token by `share` in -1..1: red below zero, blue above.
V.heat = (share) => `color-mix(in srgb, ${share < 0 ? "var(--neg)" : "var(--pos)"} ${Math.round(Math.min(Math.abs(share), 1) * 78)}%, transparent)`;

V.showTokens = async function (app, run, id, mode, cards, legend) {
  const { turns, problem } = await V.api("tokens", run, id);
  const gaps = turns.flatMap((turn) => turn.policy ? turn.policy.map((p, i) => p - turn.rollout[i]) : []).filter(Number.isFinite);
  const scale = gaps.reduce((most, gap) => Math.max(most, Math.abs(gap)), 0), known = turns.some((turn) => turn.rollout.some((v) => v !== null));
  const newest = Math.max(...turns.flatMap((turn) => turn.versions), 0), oldest = Math.min(...turns.flatMap((turn) => turn.versions), newest);
  const texts = {
    mask: ["blue tokens were sampled and train; grey ones are context"],
    gap: gaps.length ? ["learner − engine, in nats (colour: square root of its share of the largest): ", V.h("span.swatch", { style: { background: V.heat(-1) } }), `−${V.shortNumber(scale)} `, V.h("span.swatch", { style: { background: V.heat(1) } }), `+${V.shortNumber(scale)}; mean |gap| ${V.shortNumber(gaps.reduce((a, b) => a + Math.abs(b), 0) / gaps.length)}`] : [problem || "the learner's log-probs of this trajectory are not stored: set grpo.store_policy_logprobs=true before training"],
    engine: known ? ["log-prob under the engine that sampled: the redder, the less likely (full at −5 nats)"] : ["no log-prob is known: a scripted policy or an endpoint played"],
    version: [`weights that sampled each token: ${oldest === newest ? newest : `${oldest} (light) to ${newest}`}`],
  };
  V.fill(legend, texts[mode]);
  const colour = (turn, i) => {
    if (mode === "mask") return turn.mask ? "var(--train)" : "";
    if (mode === "gap") return turn.policy && Number.isFinite(turn.rollout[i]) && scale ? V.heat(Math.sign(turn.policy[i] - turn.rollout[i]) * Math.sqrt(Math.abs(turn.policy[i] - turn.rollout[i]) / scale)) : "";
    if (mode === "engine") return turn.rollout[i] === null ? "" : V.heat(Math.max(turn.rollout[i], -5) / 5);
    return V.heat(newest > oldest ? 0.25 + (0.75 * (turn.versions[i] - oldest)) / (newest - oldest) : 0.6);
  };
  const title = (turn, i) => [`log-prob ${V.num(turn.rollout[i], 5)}`, turn.policy && `learner ${V.num(turn.policy[i], 5)}, gap ${V.signed(Number((turn.policy[i] - turn.rollout[i]).toPrecision(3)))}`, `weights ${turn.versions[i]}`].filter(Boolean).join("\n");
  const paint = (card) => {
    const turn = turns[Number(card.dataset.turn) - 1];
    if (!turn || card.classList.contains("painted")) return;
    card.classList.add("painted");
    const context = V.h("pre.tokens.context", { title: "context: in no loss" }, turn.context.map((piece) => V.h("span.tok", null, V.visible(piece))));
    const own = V.h("pre.tokens", null, turn.pieces.map((piece, i) => V.h(`span.tok.own${turn.mask ? "" : ".off"}`, { title: title(turn, i), style: { "background-color": colour(turn, i) } }, V.visible(piece) || "·")));
    V.fill(card, card.querySelector("header"), context, own);
  };
  const watch = new IntersectionObserver((entries) => entries.forEach((entry) => entry.isIntersecting && paint(entry.target)), { rootMargin: "600px" });
  cards.forEach((card) => watch.observe(card));
  app.cleanup.push(() => watch.disconnect());
};
