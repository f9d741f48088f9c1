"use strict";
// Where data comes from: the server's API, or the answers that an exported file carries (gzip, base64) under the same paths.


V.exported = null;
V.loadExport = function () {
  const el = document.getElementById("exported");
  if (el) V.exported = JSON.parse(el.textContent);
};

V.unpack = async function (packed) {
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
};

V.api = async function (...words) {
  const path = words.map((word) => String(word).split("/").map(encodeURIComponent).join("/")).join("/");
  if (V.exported) {
    const packed = V.exported.answers[path];
    if (packed === undefined) throw new Error("this exported file does not carry that; open the run with swe-master view");
    return V.unpack(packed);
  }
  const response = await fetch(`/api/${path}`);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error || `the viewer answered ${response.status}`);
  return answer;
};

// Calls onLine for each line of the answer (see cluster/viewer/text_search.py); ends when `signal` aborts.
V.search = async function (run, query, stages, onLine, signal) {
  if (V.exported) return V.searchExport(run, query, onLine, signal);
  const response = await fetch(`/api/search/${encodeURIComponent(run)}?q=${encodeURIComponent(query)}&stages=${encodeURIComponent(stages)}`, { signal });
  if (!response.ok) throw new Error((await response.json()).error);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    lines.forEach((line) => onLine(JSON.parse(line)));
  }
};

V.searchExport = async function (run, query, onLine, signal) {
  const exact = query !== query.toLowerCase(), fold = (text) => exact ? text : text.toLowerCase();
  const prefix = `trajectory/${encodeURIComponent(run)}/`;
  let searched = 0, hits = 0;
  for (const path of Object.keys(V.exported.answers)) {
    if (!path.startsWith(prefix) || signal.aborted) continue;
    const episode = await V.api(...path.split("/").map(decodeURIComponent));
    const places = [["prompt", -1], ["patch", -1], ["report_text", -1]].map(([f, t]) => [f, t, episode[f] || ""]);
    episode.turns.forEach((turn, number) => places.push(["text", number, turn.text], ["observation", number, turn.observation || ""]));
    const found = places.filter(([, , text]) => fold(text).includes(query));
    searched += 1;
    if (found.length) {
      hits += 1;
      const [field, turn, text] = found[0], at = fold(text).indexOf(query), flat = (part) => part.replace(/\n/g, " ");
      const words = path.slice(prefix.length).split("/").map(decodeURIComponent);
      onLine({ hit: { shard: words.slice(0, -1).join("/"), row: Number(words.at(-1)), field, turn, count: found.length,
        before: flat(text.slice(Math.max(0, at - 90), at)), match: flat(text.slice(at, at + query.length)), after: flat(text.slice(at + query.length, at + query.length + 90)) } });
    }
    onLine({ searched });
  }
  onLine({ done: true, searched, hits, cut: "", problems: [] });
};

// The index of a run, column by column, with the filters over it.
V.RunTable = class {
  constructor(run, index) {
    Object.assign(this, index, { run, size: index.rows.row.length });
    const firstOfShard = new Map();
    this.rows.shard.forEach((shard, at) => { if (!firstOfShard.has(shard)) firstOfShard.set(shard, at); });
    this.firstOfShard = firstOfShard;
    this.shardCode = new Map(this.shards.map((name, code) => [name, code]));
  }
  id(at) { return `${this.shards[this.rows.shard[at]]}/${this.rows.row[at]}`; }
  at(shard, row) {
    const first = this.firstOfShard.get(this.shardCode.get(shard));
    const at = first === undefined ? -1 : first + Number(row);
    return at >= 0 && at < this.size && this.shards[this.rows.shard[at]] === shard ? at : -1;
  }
  groupId(group) { return `${this.shards[this.groups.shard[group]]}/${this.groups.number[group]}`; }
  groupAt(shard, number) {
    const code = this.shardCode.get(shard);
    return this.groups.shard.findIndex((found, group) => found === code && this.groups.number[group] === Number(number));
  }
  name(kind, at) {
    const r = this.rows;
    if (kind === "stage") return this.stages[r.stage[at]];
    if (kind === "stop") return this.stops[r.stop[at]];
    if (kind === "policy") return this.policies[r.policy[at]];
    if (kind === "repo") return this.repos[this.repo[r.instance[at]]];
    if (kind === "step") return r.step[at] ? String(r.step[at]) : "";
    if (kind === "outcome") return r.resolved[at] === true ? "resolved" : r.resolved[at] === false ? "not resolved" : "not graded";
    return this.instances[r.instance[at]];
  }
  // A test per filter that `params` sets; `skip` leaves one out (the counts of a facet ignore its own choice).
  tests(params, skip) {
    const tests = [];
    for (const kind of V.FACETS) {
      const wanted = kind === skip ? null : V.values(params, kind);
      if (wanted?.size) tests.push((at) => wanted.has(this.name(kind, at)));
    }
    const low = params.get("rmin"), high = params.get("rmax");
    if (low !== null && skip !== "reward") tests.push((at) => this.rows.reward[at] !== null && this.rows.reward[at] >= Number(low));
    if (high !== null && skip !== "reward") tests.push((at) => this.rows.reward[at] !== null && this.rows.reward[at] <= Number(high));
    const instance = params.get("instance");
    if (instance) tests.push((at) => this.instances[this.rows.instance[at]] === instance);
    return tests;
  }
  filtered(params, hits = null) {
    const tests = this.tests(params), found = [];
    for (let at = 0; at < this.size; at++) {
      if ((!hits || hits.has(at)) && tests.every((test) => test(at))) found.push(at);
    }
    const sort = params.get("sort") || "";
    const key = sort.replace("-", ""), sign = sort.startsWith("-") ? -1 : 1;
    const column = { reward: "reward", advantage: "advantage", turns: "num_turns", tokens: "num_tokens", seconds: "seconds", step: "step" }[key];
    if (column) {
      const values = this.rows[column], low = -Infinity;
      found.sort((a, b) => sign * ((values[a] ?? low) - (values[b] ?? low)) || a - b);
    } else if (key === "task") {
      found.sort((a, b) => sign * this.name("instance", a).localeCompare(this.name("instance", b)) || a - b);
    }
    return found;
  }
  counts(kind, params) {
    const tests = this.tests(params, kind), counts = new Map();
    for (let at = 0; at < this.size; at++) {
      if (!tests.every((test) => test(at))) continue;
      const name = this.name(kind, at);
      if (name) counts.set(name, (counts.get(name) || 0) + 1);
    }
    return counts;
  }
};
V.FACETS = ["stage", "outcome", "stop", "step", "policy", "repo"];
V.values = (params, kind) => new Set(params.getAll(kind));

V.opened = new Map();
V.table = function (run) {
  if (!V.opened.has(run)) {
    const loading = V.api("index", run).then((index) => new V.RunTable(run, index));
    loading.catch(() => V.opened.delete(run));
    V.opened.set(run, loading);
  }
  return V.opened.get(run);
};
