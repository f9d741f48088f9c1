"use strict";
// All members of a group side by side: reward, advantage, what each did turn by turn, and its patch.
V.toolCall = function (action) {
  const name = (action.match(/<function=\s*([^>\s]+)\s*>/) || [])[1];
  if (!name) return null;
  const parameters = [...action.matchAll(/<parameter=\s*([^>\s]+)\s*>([\s\S]*?)<\/parameter>/g)].map((m) => [m[1], m[2]]);
  return { name, parameters };
};
V.callLine = function (turn) {
  const call = V.toolCall(turn.action || "");
  if (!call) return "no tool call";
  const main = call.parameters.filter(([key]) => key !== "command" || call.name === "execute_bash").map(([, value]) => value.trim().split("\n")[0]);
  const command = call.name === "execute_bash" ? "$" : (call.parameters.find(([key]) => key === "command") || [, call.name])[1];
  return `${command} ${main.join(" ")}`.trim();
};
V.spanBar = function (spans, seconds, longest) {
  const total = seconds || 1, bar = V.h("div.spans", { title: "blue: generating, orange: tools, grey: everything else", style: { width: `${(100 * seconds) / (longest || seconds || 1)}%` } });
  for (const [generate, tool] of spans || []) bar.append(V.h("i.gen", { style: { width: `${(100 * generate) / total}%` } }), V.h("i.tool", { style: { width: `${(100 * tool) / total}%` } }));
  return bar;
};

V.pages.group = async function (app, { run, words, params }) {
  const table = await V.table(run), number = words.at(-1), shard = words.slice(0, -1).join("/"), group = table.groupAt(shard, number);
  if (group < 0) throw new Error(`no group ${shard}/${number} in this run`);
  const g = table.groups, first = g.first[group], at = Array.from({ length: g.members[group] }, (_, i) => first + i), r = table.rows;
  const instance = table.instances[g.instance[group]], stage = table.stages[g.stage[group]], rewards = at.map((i) => r.reward[i]).filter((v) => v !== null);
  const scale = Math.max(...at.map((i) => Math.abs(r.advantage[i] ?? 0)), 1e-9), longest = Math.max(...at.map((i) => r.seconds[i]), 1e-9);
  const body = V.h("div.members", { style: { "--members": Math.max(at.length, 1) } }), lost = g.lost[group];
  const spread = rewards.length && Math.max(...rewards) > Math.min(...rewards);
  V.fill(app.main, V.h("div.page.wide", null,
    V.h("div.titleline", null, V.h("h1", null, V.visible(instance)), V.h("span.chip", null, stage + (g.step[group] ? ` · step ${g.step[group]}` : "")), V.h("a.button", { href: V.link([run, "task", instance]) }, "Task")),
    V.h("p.quiet", null, `${at.length} members · ${at.filter((i) => r.resolved[i]).length} resolved · mean reward ${V.num(rewards.reduce((a, b) => a + b, 0) / (rewards.length || 1))}`,
      rewards.length && !spread ? " · no spread: this group teaches nothing" : "", lost.length ? ` · ${lost.length} lost to infrastructure` : ""),
    lost.length > 0 && V.h("ul.lost", null, lost.map(([index, error]) => V.h("li", null, `#${index}: ${V.visible(error)}`))),
    body));
  app.list = V.columnsList(at, (i) => V.openTrajectory(run, table, at[i], params), body);
  const heads = at.map((i, place) => V.h("div.cell.memberhead", { "data-member": place, on: { click: () => V.openTrajectory(run, table, i, params) } },
    V.h("div.line", null, V.outcome(r.resolved[i]), V.h("b", null, `#${r.sample_index[i]}`), V.h("span.quiet", null, V.visible(table.name("policy", i))), r.train[i] === false && V.h("span.chip", { title: "its tokens are in no loss" }, "masked")),
    V.h("div.big", null, V.num(r.reward[i]), V.h("small", null, " reward")), V.h("div.line", null, V.h("span.n", null, V.signed(r.advantage[i])), V.h("small", null, " advantage")), V.advantageBar(r.advantage[i], scale),
    V.h("div.quiet.small", null, `${V.num(r.num_turns[i])} turns · ${V.num(r.num_tokens[i])} tokens · ${V.secs(r.seconds[i])}`), V.h("div.spanbox"), V.h(`span.stop.${table.name("stop", i) === "submitted" ? "plain" : "odd"}`, null, table.name("stop", i).replaceAll("_", " "))));
  V.fill(body, heads);
  V.api("spans", run, shard, r.row[first] ?? 0, at.length).then((spans) => heads.forEach((head, place) => V.fill(head.querySelector(".spanbox"), V.spanBar(spans[place], r.seconds[at[place]], longest)))).catch(() => {});
  const episodes = await Promise.all(at.map((i) => V.api("trajectory", run, table.id(i)).catch((error) => ({ turns: [], failed: error.message }))));
  V.fillMembers(body, heads, episodes, (place, turn) => V.openTrajectory(run, table, at[place], params, { turn }));
};

V.fillMembers = function (body, heads, episodes, open) {
  const depth = Math.max(...episodes.map((episode) => episode.turns.length), 0), rows = [heads];
  let together = true;
  for (let turn = 0; turn < depth; turn++) {
    const lines = episodes.map((episode) => episode.turns[turn] ? V.callLine(episode.turns[turn]) : "");
    together = together && lines.every((line) => line === lines[0]);
    const same = new Map();
    lines.forEach((line) => same.set(line, (same.get(line) || 0) + 1));
    rows.push(lines.map((line, place) => line === "" ? V.h("div.cell") : V.h(`div.cell.step${together ? ".same" : ""}`, { title: V.visible(episodes[place].turns[turn].observation || "").slice(0, 400), on: { click: () => open(place, turn) } },
      V.h("span.turn-no", null, turn + 1), V.h("code", null, V.visible(line)), !together && same.get(line) > 1 && V.h("span.quiet.small", { title: "members that did the same in this turn" }, ` ×${same.get(line)}`))));
  }
  rows.push(episodes.map((episode) => V.h("div.cell.patchcell", null, V.h("h4", null, "patch"), episode.failed ? V.h("p.warn", null, episode.failed) : V.diffFiles(episode.patch).length ? V.diffFiles(episode.patch).map((file) => [V.h("h4.path", null, V.visible(file.path)), V.diffLines(file.lines)]) : V.h("p.quiet", null, "empty"))));
  V.fill(body, rows);
};

// j and k walk over the members as over rows.
V.columnsList = (at, open, body) => ({
  selected: -1, count: at.length, open, close() {},
  choose(index) {
    this.selected = Math.max(0, Math.min(at.length - 1, index));
    body.querySelectorAll(".memberhead").forEach((head, place) => head.classList.toggle("selected", place === this.selected));
    body.querySelectorAll(".memberhead")[this.selected]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  },
});
