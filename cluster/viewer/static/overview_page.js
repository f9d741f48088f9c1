"use strict";
V.problemsBox = (problems) => problems?.length ? V.h("details.problems", { open: problems.length < 6 }, V.h("summary", null, `${problems.length} thing${problems.length > 1 ? "s" : ""} could not be read; the rest is shown`), V.h("ul", null, problems.map((text) => V.h("li", null, V.visible(text))))) : null;

V.pages.runs = async function (app) {
  const runs = await V.api("runs");
  if (runs.length === 1) { V.go([runs[0].name], {}, true); return; }
  V.fill(app.main, V.h("div.page", null, V.h("h1", null, "Runs"), V.h("div.runs", null, runs.map((run) =>
    V.h("a.card.run", { href: V.link([run.name]) }, V.h("b", null, run.name), V.h("span.quiet", null, new Date(run.changed * 1000).toLocaleString()),
      V.h("div.chips", null, run.stages.map((stage) => V.h("span.chip", null, stage))),
      run.results.length ? V.h("div", null, run.results.filter((row) => / pass@1$|^TTS/.test(row[0])).map((row) => V.h("div.result", null, V.h("span", null, row[0]), V.h("b", null, row[1])))) : V.h("span.quiet", null, "nothing evaluated yet"),
      run.problems.length > 0 && V.h("span.warn", null, `${run.problems.length} unreadable`))))));
  app.list = null;
};

V.stageTotals = function (table) {
  return table.stages.map((stage, code) => {
    const at = [];
    table.rows.stage.forEach((found, i) => { if (found === code) at.push(i); });
    const mean = (column) => { const values = at.map((i) => table.rows[column][i]).filter((v) => v !== null); return values.length ? values.reduce((a, b) => a + Number(b), 0) / values.length : null; };
    return { stage, episodes: at.length, resolved: mean("resolved"), reward: mean("reward"), turns: mean("num_turns"), tokens: mean("num_tokens"), seconds: mean("seconds"),
      lost: table.groups.lost.reduce((sum, lost, g) => sum + (table.groups.stage[g] === code ? lost.length : 0), 0) };
  });
};

V.plain = (record, prefix = "") => Object.entries(record).flatMap(([key, value]) =>
  typeof value === "number" || typeof value === "string" ? [[prefix + key, typeof value === "number" ? V.num(value, 4) : value]]
    : value && typeof value === "object" && !Array.isArray(value) && !prefix ? V.plain(value, `${key}.`) : []);

V.pages.run = async function (app, { run }) {
  const [info, table, metrics] = await Promise.all([V.api("run", run), V.table(run), V.api("metrics", run)]);
  const totals = V.stageTotals(table), whole = info.stages.reduce((sum, stage) => sum + (stage.record.seconds || 0), 0);
  const grpo = metrics.grpo;
  const pick = (step) => V.go([run, "trajectories"], { stage: "grpo", step });
  const curves = grpo ? V.h("div.charts", null,
    V.lineChart("reward, resolved", grpo.steps, [{ name: "reward", values: grpo.series["reward/mean"] || [] }, { name: "resolved", values: grpo.series["rollout/resolved"] || [] }], { range: [0, 1], onPick: pick }),
    V.lineChart("turns per episode", grpo.steps, [{ name: "turns", values: grpo.series["rollout/turns"] || [] }], { onPick: pick }),
    V.lineChart("engine against learner: |log-prob gap|", grpo.steps, [{ name: "mean", values: grpo.series.logprob_gap || [] }, { name: "largest", values: grpo.series.logprob_gap_max || [] }], { onPick: pick })) : null;
  V.fill(app.main, V.h("div.page", null,
    V.h("div.titleline", null, V.h("h1", null, info.name), info.report && !V.exported && V.h("a.button", { href: `/report/${encodeURIComponent(run)}`, target: "_blank", rel: "noopener" }, "Report")),
    V.problemsBox([...new Set(info.problems)]),
    V.h("div.columns", null,
      V.h("section", null, V.h("h2", null, "Results"), info.results.length ? V.h("table.results", null, V.h("tbody", null, info.results.map((row) => V.h("tr", null, V.h("td", null, row[0]), V.h("td.strong", null, row[1]), V.h("td.quiet", null, row[2]))))) : V.h("p.quiet", null, "nothing evaluated yet")),
      V.h("section", null, V.h("h2", null, "Stages"), info.stages.length ? V.h("div.stagebars", null, info.stages.map((stage) => V.h("details.stagebar", null, V.h("summary", null, V.h("span", null, stage.name), V.h("span.bar", { style: { "--w": `${whole ? (100 * (stage.record.seconds || 0)) / whole : 0}%` } }), V.h("span.n", null, V.secs(stage.record.seconds))),
        V.h("dl.facts", null, V.plain(stage.record).map(([key, value]) => [V.h("dt", null, key), V.h("dd", null, V.visible(value))]))))) : V.h("p.quiet", null, "no stage has finished yet"))),
    V.h("h2", null, "Episodes"),
    totals.length ? V.h("table.grid", null, V.h("thead", null, V.h("tr", null, ["stage", "episodes", "lost", "resolved", "mean reward", "turns", "tokens", "seconds"].map((name, i) => V.h(i ? "th.n" : "th", null, name)))),
      V.h("tbody", null, totals.map((t) => V.h("tr.link", { on: { click: () => V.go([run, "trajectories"], { stage: t.stage }) } }, V.h("td", null, V.h("a", { href: V.link([run, "trajectories"], { stage: t.stage }) }, t.stage)), [V.num(t.episodes), V.num(t.lost), t.resolved === null ? "–" : V.percent(t.resolved), V.num(t.reward), V.num(t.turns, 1), V.num(t.tokens, 0), V.num(t.seconds, 2)].map((v) => V.h("td.n", null, v)))))) : V.h("p.quiet", null, "no trajectory is stored yet"),
    curves && V.h("h2", null, "Reinforcement learning", V.h("span.quiet", null, " · a click opens that step's trajectories")), curves,
    V.h("h2", null, "Made with"),
    V.h("div.chips", null, Object.entries(info.versions).map(([name, version]) => V.h("span.chip", null, `${name} ${version}`))),
    info.config && V.h("details", null, V.h("summary", null, "config.yaml"), V.h("pre.code", null, V.visible(info.config)))));
};

V.pages.curves = async function (app, { run, params }) {
  const metrics = await V.api("metrics", run), stages = Object.keys(metrics);
  const stage = stages.includes(params.get("stage")) ? params.get("stage") : stages.includes("grpo") ? "grpo" : stages[0];
  if (!stage) { V.fill(app.main, V.h("div.page", null, V.h("h1", null, "Curves"), V.h("p.quiet", null, "metrics.jsonl holds nothing yet"))); return; }
  const { steps, series } = metrics[stage], groups = new Map();
  for (const name of Object.keys(series)) {
    const prefix = name.includes("/") ? name.slice(0, name.indexOf("/")) : "learner";
    groups.set(prefix, [...(groups.get(prefix) || []), name]);
  }
  V.fill(app.main, V.h("div.page", null, V.h("h1", null, "Curves"),
    V.h("div.tabs", null, stages.map((name) => V.h(name === stage ? "a.on" : "a", { href: V.link([run, "curves"], { stage: name }) }, name))),
    [...groups.keys()].sort().map((prefix) => [V.h("h2", null, prefix), V.h("div.charts", null, groups.get(prefix).map((name) => V.lineChart(name, steps, [{ name, values: series[name] }])))])));
};
