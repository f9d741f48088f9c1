"use strict";
// A unified diff as coloured lines, and two of them side by side, file by file.
V.diffFiles = function (diff) {
  const files = [];
  for (const line of (diff || "").split("\n")) {
    const header = line.match(/^diff --git a\/(.*) b\/(.*)$/);
    if (header || !files.length) files.push({ path: header ? header[2] : "", lines: [] });
    files.at(-1).lines.push(line);
  }
  for (const file of files) {
    while (file.lines.length && !file.lines.at(-1).trim()) file.lines.pop();
    if (!file.path) file.path = (file.lines.find((line) => line.startsWith("+++ ")) || "+++ patch").replace(/^\+\+\+ (b\/)?/, "");
  }
  return files.filter((file) => file.lines.length);
};

V.diffLines = function (lines) {
  const box = V.h("div.diff");
  let old = 0, now = 0, body = false;
  for (const line of lines) {
    const hunk = line.match(/^@@ -(\d+)(?:,\d+)? \+(\d+)/);
    let cls = "ctx", left = "", right = "";
    if (hunk) { cls = "hunk"; old = Number(hunk[1]); now = Number(hunk[2]); body = true; }
    else if (!body || line.startsWith("\\")) cls = "meta";
    else if (line.startsWith("+")) { cls = "add"; right = now++; }
    else if (line.startsWith("-")) { cls = "del"; left = old++; }
    else { left = old++; right = now++; }
    if (cls === "meta" && /^(diff --git|index |--- |\+\+\+ )/.test(line)) continue;
    box.append(V.h(`div.dl.${cls}`, null, V.h("span.ln", null, left), V.h("span.ln", null, right), V.h("code", null, V.visible(line) || " ")));
  }
  return box;
};

V.diffPair = function (patch, gold, goldName = "gold patch") {
  const ours = new Map(V.diffFiles(patch).map((file) => [file.path, file.lines]));
  const theirs = new Map(V.diffFiles(gold).map((file) => [file.path, file.lines]));
  const paths = [...new Set([...ours.keys(), ...theirs.keys()])].sort();
  const side = (map, path, empty) => map.has(path) ? V.diffLines(map.get(path)) : V.h("p.quiet.pad", null, empty);
  return V.h("div.pair", null,
    V.h("div.pairhead", null, V.h("b", null, "agent's patch"), V.h("b", null, goldName)),
    !paths.length && V.h("p.quiet.pad", null, "both patches are empty"),
    paths.map((path) => V.h("section", null, V.h("h4.path", null, V.visible(path)),
      V.h("div.two", null, side(ours, path, ours.size ? "not touched by the agent" : "the agent's patch is empty"),
        side(theirs, path, gold === null ? "the run holds no reference for this task" : "not touched by the reference")))));
};
