"use strict";
// A step's time: where the steps' seconds went, then every episode as a bar of generating, tools and the rest.
V.pages.timeline = async function (app, { run, params }) {
  const table = await V.table(run), metrics = await V.api("metrics", run), stages = table.stages;
  const stage = stages.includes(params.get("stage")) ? params.get("stage") : stages.includes("grpo") ? "grpo" : stages[0];
  if (!stage) { V.fill(app.main, V.h("div.page", null, V.h("h1", null, "Timeline"), V.h("p.quiet", null, "no trajectory is stored yet"))); return; }
  const code = stages.indexOf(stage), mine = table.groups.stage.flatMap((found, group) => found === code ? [group] : []);
  const steps = [...new Set(mine.map((group) => table.groups.step[group]))].sort((a, b) => a - b);
  const step = steps.includes(Number(params.get("step"))) ? Number(params.get("step")) : steps[0];
  const groups = mine.filter((group) => table.groups.step[group] === step), shown = groups.slice(0, 64);
  const go = (next) => V.go([run, "timeline"], { stage, step: next });
  const canvas = V.h("canvas.timeline"), readout = V.h("div.readout.line", null, " "), holder = V.h("div.canvasbox", null, canvas);
  V.fill(app.main, V.h("div.page.wide", null, V.h("h1", null, "Timeline"),
    V.h("div.tabs", null, stages.map((name) => V.h(name === stage ? "a.on" : "a", { href: V.link([run, "timeline"], { stage: name }) }, name))),
    V.stepBars(metrics[stage], step, steps[0] ? go : null),
    V.h("div.titleline", null, V.h("h2", null, steps[0] ? `Episodes of step ${step}` : `Episodes of ${stage}`), steps.length > 1 && V.h("select", { "aria-label": "Step", on: { change: (event) => go(event.target.value) } }, steps.map((one) => V.h("option", { value: one, selected: one === step }, one ? `step ${one}` : "no step"))),
      V.h("span.legend", null, V.h("span.swatch.gen"), "generating ", V.h("span.swatch.tool"), "tools ", V.h("span.swatch.rest"), "waiting, set-up, the rest")),
    shown.length < groups.length && V.h("p.quiet", null, `the first ${shown.length} of ${groups.length} groups`), readout, holder, V.h("p.quiet.small", null, "Every bar begins when its episode begins: seconds are stored per turn, not the time of day.")));
  const bars = await Promise.all(shown.map(async (group) => {
    const first = table.groups.first[group], count = table.groups.members[group];
    const spans = count ? await V.api("spans", run, table.shards[table.groups.shard[group]], table.rows.row[first], count).catch(() => []) : [];
    return spans.map((turns, i) => ({ at: first + i, turns, group }));
  }));
  V.drawTimeline(app, canvas, holder, readout, table, bars.flat(), (bar) => V.openTrajectory(run, table, bar.at, new URLSearchParams()));
};

// Per step: seconds waiting for rollouts, training, handing out weights.
V.stepBars = function (stage, step, go) {
  const parts = [["time/rollout_wait_s", "gen", "rollouts"], ["time/train_s", "train", "training"], ["time/sync_s", "sync", "new weights"]];
  if (!stage?.series["time/rollout_wait_s"]) return null;
  const totals = stage.steps.map((_, i) => parts.reduce((sum, [name]) => sum + (stage.series[name]?.[i] || 0), 0)), most = Math.max(...totals);
  return V.h("section", null, V.h("h2", null, "Seconds per step ", V.h("span.legend", null, parts.map(([, cls, label]) => [V.h(`span.swatch.${cls}`), `${label} `]))),
    V.h("div.stepbars", null, stage.steps.map((one, i) => V.h(one === step ? "button.on" : "button", { title: `step ${one}: ${parts.map(([name, , label]) => `${label} ${V.secs(stage.series[name]?.[i])}`).join(", ")}`, on: { click: () => go?.(one) } },
      parts.slice().reverse().map(([name, cls]) => V.h(`i.${cls}`, { style: { height: `${(100 * (stage.series[name]?.[i] || 0)) / most}px` } }))))));
};

V.drawTimeline = function (app, canvas, holder, readout, table, bars, open) {
  const row = 13, left = 190, top = 22, longest = Math.max(...bars.map((bar) => table.rows.seconds[bar.at]), 1e-6);
  let x = (seconds) => seconds;
  const draw = () => {
    const width = holder.clientWidth, height = top + bars.length * row + 8, ratio = window.devicePixelRatio || 1, style = getComputedStyle(document.body);
    const css = (name) => style.getPropertyValue(name).trim(), ctx = canvas.getContext("2d");
    canvas.width = width * ratio; canvas.height = height * ratio;
    canvas.style.width = `${width}px`; canvas.style.height = `${height}px`;
    ctx.scale(ratio, ratio);
    x = (seconds) => left + ((width - left - 12) * seconds) / longest;
    ctx.font = "11px system-ui, sans-serif";
    for (const tick of V.ticks(0, longest, 8)) { ctx.fillStyle = css("--line"); ctx.fillRect(x(tick), top - 4, 1, height); ctx.fillStyle = css("--quiet"); ctx.textAlign = "center"; ctx.fillText(V.secs(tick), x(tick), 12); }
    bars.forEach((bar, i) => {
      const y = top + i * row, startsGroup = !i || bars[i - 1].group !== bar.group;
      if (startsGroup && i) { ctx.fillStyle = css("--line"); ctx.fillRect(0, y - 1, width, 1); }
      if (startsGroup) { ctx.fillStyle = css("--quiet"); ctx.textAlign = "left"; ctx.fillText(table.name("instance", bar.at).slice(0, 30), 4, y + 10); }
      ctx.fillStyle = css("--rest"); ctx.fillRect(x(0), y + 2, x(table.rows.seconds[bar.at]) - x(0), row - 4);
      let now = 0;
      for (const [generate, tool] of bar.turns) {
        ctx.fillStyle = css("--gen"); ctx.fillRect(x(now), y + 2, x(now + generate) - x(now), row - 4); now += generate;
        ctx.fillStyle = css("--tool"); ctx.fillRect(x(now), y + 2, Math.max(x(now + tool) - x(now), 0.7), row - 4); now += tool;
      }
      ctx.fillStyle = css(table.rows.resolved[bar.at] ? "--good" : "--bad"); ctx.fillRect(left - 8, y + 4, 4, row - 8);
    });
  };
  const under = (event) => bars[Math.floor((event.offsetY - top) / row)];
  canvas.addEventListener("pointermove", (event) => {
    const bar = under(event);
    if (!bar) return;
    const sum = (k) => bar.turns.reduce((total, turn) => total + turn[k], 0), seconds = table.rows.seconds[bar.at];
    V.fill(readout, `${table.name("instance", bar.at)} #${table.rows.sample_index[bar.at]}: generating ${V.secs(sum(0))}, tools ${V.secs(sum(1))}, the rest ${V.secs(Math.max(seconds - sum(0) - sum(1), 0))}, ${bar.turns.length} turns`);
  });
  canvas.addEventListener("click", (event) => { const bar = under(event); if (bar) open(bar); });
  const observer = new ResizeObserver(draw);
  observer.observe(holder);
  app.cleanup.push(() => observer.disconnect());
  draw();
};
