"use strict";
V.taskRows = async function (run) {
  const [table, tasks] = await Promise.all([V.table(run), V.api("tasks", run)]), found = new Map();
  tasks.forEach((task) => found.set(task.instance_id, { ...task, stages: new Map() }));
  table.instances.forEach((name, code) => { if (!found.has(name)) found.set(name, { instance_id: name, repo: table.repos[table.repo[code]], split: "", source: "", stages: new Map() }); });
  for (let at = 0; at < table.size; at++) {
    const stages = found.get(table.name("instance", at)).stages, stage = table.name("stage", at);
    const tally = stages.get(stage) || { episodes: 0, resolved: 0 };
    tally.episodes += 1;
    tally.resolved += table.rows.resolved[at] === true ? 1 : 0;
    stages.set(stage, tally);
  }
  return { table, tasks: [...found.values()] };
};
V.rateBar = (tally) => tally ? V.h("span.rate", { title: `${tally.resolved} of ${tally.episodes} resolved` }, V.h("i", { style: { width: `${(100 * tally.resolved) / tally.episodes}%` } }), V.h("span", null, `${tally.resolved}/${tally.episodes}`)) : V.h("span.rate.empty");

V.pages.tasks = async function (app, { run, params }) {
  const { table, tasks } = await V.taskRows(run);
  let shown = tasks;
  const list = new V.VirtualList(34, (index) => {
    const task = shown[index];
    return V.h("div.trow.taskrow", { style: { "--stages": table.stages.length } }, V.h("span.task", null, V.visible(task.instance_id)), V.h("span.quiet.clip", null, V.visible(task.repo || "")), V.h("span.quiet", null, [task.split, task.source].filter(Boolean).join(" · ")), table.stages.map((stage) => V.rateBar(task.stages.get(stage))));
  }, { open: (index) => V.go([run, "task", shown[index].instance_id]) });
  const count = V.h("b.count"), refresh = () => {
    const word = (params.get("task") || "").toLowerCase();
    shown = tasks.filter((task) => `${task.instance_id} ${task.repo} ${task.split} ${task.source}`.toLowerCase().includes(word));
    const rate = (task) => { let e = 0, s = 0; task.stages.forEach((t) => { e += t.episodes; s += t.resolved; }); return e ? s / e : 2; };
    if (params.get("sort") === "hard") shown.sort((a, b) => rate(a) - rate(b));
    V.fill(count, `${V.num(shown.length)} of ${V.num(tasks.length)}`);
    list.setRows(shown.length);
  };
  const edit = (key, value) => { value ? params.set(key, value) : params.delete(key); V.keep([run, "tasks"], params); refresh(); };
  V.fill(app.main, V.h("div.rows.full", null, V.h("div.toolbar", null, count, " tasks", V.h("span.spring"), V.h("input.filter", { type: "search", placeholder: "task, repository, split", "aria-label": "Filter tasks", value: params.get("task") || "", on: { input: (event) => edit("task", event.target.value) } }),
    V.h("label", null, "sort ", V.h("select", { on: { change: (event) => { edit("sort", event.target.value); if (!event.target.value) V.route(); } } }, [["", "as stored"], ["hard", "hardest first"]].map(([value, label]) => V.h("option", { value, selected: value === (params.get("sort") || "") }, label))))),
    V.h("div.headbox", null, V.h("div.trow.taskrow.head", { style: { "--stages": table.stages.length } }, ["task", "repository", "split · source", ...table.stages].map((name) => V.h("span", null, name)))), list.el));
  refresh();
  app.list = list;
  app.cleanup.push(() => list.close());
};

V.pages.task = async function (app, { run, words }) {
  const instance = words.join("/"), table = await V.table(run);
  const task = await V.api("task", run, instance).catch((error) => ({ instance_id: instance, failed: error.message }));
  const groups = table.groups.instance.flatMap((code, group) => table.instances[code] === instance ? [group] : []), r = table.rows;
  const tests = (kind) => task[kind]?.length ? V.h("details", { open: task[kind].length < 12 }, V.h("summary", null, `${task[kind].length} ${kind.replaceAll("_", " ")}`), V.h("ul.names", null, task[kind].map((name) => V.h("li", null, V.h("code", null, V.visible(name)))))) : null;
  V.fill(app.main, V.h("div.page", null, V.h("div.titleline", null, V.h("h1", null, V.visible(instance)), V.h("a.button", { href: V.link([run, "trajectories"], { instance }) }, "Its trajectories")),
    task.failed && V.h("p.warn", null, task.failed), V.h("div.chips", null, ["repo", "source", "split", "language", "licence", "difficulty", "resolution", "log_parser"].filter((key) => task[key]).map((key) => V.h("span.chip", null, `${key.replaceAll("_", " ")} ${V.visible(task[key])}`))),
    V.h("h2", null, "Groups"), V.h("div.grouplist", null, groups.map((group) => {
      const at = Array.from({ length: table.groups.members[group] }, (_, i) => table.groups.first[group] + i);
      return V.h("a.card", { href: V.link([run, "g", ...table.groupId(group).split("/")]) }, V.h("b", null, table.stages[table.groups.stage[group]] + (table.groups.step[group] ? ` · step ${table.groups.step[group]}` : "")), V.h("span.dots", null, at.map((i) => V.outcome(r.resolved[i]))));
    })), !groups.length && V.h("p.quiet", null, "no episode of this task is stored"),
    task.problem_statement && [V.h("h2", null, "Issue"), V.h("pre.code", null, V.visible(task.problem_statement))],
    task.gold_patch !== undefined && [V.h("h2", null, "Reference patch"), V.diffFiles(task.gold_patch).map((file) => [V.h("h4.path", null, V.visible(file.path)), V.diffLines(file.lines)])],
    (task.fail_to_pass || task.pass_to_pass) && [V.h("h2", null, "Hidden tests"), tests("fail_to_pass"), tests("pass_to_pass")],
    task.test_patch && V.h("details", null, V.h("summary", null, "test patch"), V.diffFiles(task.test_patch).map((file) => [V.h("h4.path", null, V.visible(file.path)), V.diffLines(file.lines)])),
    task.eval_script && V.h("details", null, V.h("summary", null, "script that runs the tests"), V.h("pre.code", null, V.visible(task.eval_script)))));
};
