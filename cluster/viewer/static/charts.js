"use strict";
// Line charts as SVG elements, with a readout under the pointer.
V.COLOURS = ["var(--c1)", "var(--c2)", "var(--c3)", "var(--c4)", "var(--c5)", "var(--c6)"];

V.ticks = function (low, high, count = 4) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(span / count));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= (span / count) * 0.99);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) found.push(Number(v.toPrecision(12)));
  return found;
};
V.shortNumber = (v) => v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e6) ? v.toExponential(1) : Math.abs(v) >= 100 ? v.toLocaleString("en", { maximumFractionDigits: 0 }) : String(Number(v.toPrecision(3)));

// lines: [{name, values}] over `steps`; gaps (null) are left open. onPick(step) is called for a click.
V.lineChart = function (title, steps, lines, { range, onPick } = {}) {
  const W = 360, H = 190, L = 46, R = 10, T = 12, B = 24;
  const all = lines.flatMap((line) => line.values.filter((v) => Number.isFinite(v)));
  const head = V.h("figcaption", null, V.h("b", null, title), lines.length > 1 && lines.map((line, i) => V.h("span.key", { style: { "--k": V.COLOURS[i % 6] } }, line.name)));
  if (!all.length) return V.h("figure.chart", null, head, V.h("p.quiet", null, "nothing recorded"));
  const exact = Math.min(...all), peak = Math.max(...all);
  let [low, high] = range || [exact >= 0 && exact < peak * 0.6 ? 0 : exact, peak];
  if (low === high) { const pad = Math.abs(low) * 0.1 || 1; low -= pad; high += pad; }
  else if (!range) high += (high - low) * 0.06;
  const first = steps[0], last = steps.at(-1);
  const x = (step) => L + (W - L - R) * (last > first ? (step - first) / (last - first) : 0.5);
  const y = (v) => H - B - (H - T - B) * ((v - low) / (high - low));
  const svg = V.h("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": title });
  for (const v of V.ticks(low, high)) {
    svg.append(V.h("line.grid", { x1: L, x2: W - R, y1: y(v), y2: y(v) }), V.h("text.axis", { x: L - 5, y: y(v) + 3.5, "text-anchor": "end" }, V.shortNumber(v)));
  }
  for (const v of V.ticks(first, last, 5)) svg.append(V.h("text.axis", { x: x(v), y: H - 8, "text-anchor": "middle" }, V.shortNumber(v)));
  lines.forEach((line, i) => {
    let path = "", open = false;
    line.values.forEach((v, at) => {
      if (!Number.isFinite(v)) { open = false; return; }
      path += `${open ? "L" : "M"}${x(steps[at]).toFixed(1)} ${y(v).toFixed(1)}`;
      open = true;
    });
    svg.append(V.h("path.line", { d: path, style: { stroke: V.COLOURS[i % 6] } }));
    if (steps.length < 3) line.values.forEach((v, at) => Number.isFinite(v) && svg.append(V.h("circle", { cx: x(steps[at]), cy: y(v), r: 2.5, style: { fill: V.COLOURS[i % 6] } })));
  });
  const cross = V.h("line.cross", { y1: T, y2: H - B, x1: -9, x2: -9 });
  const readout = V.h("div.readout");
  svg.append(cross);
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), wanted = ((event.clientX - box.left) / box.width) * W;
    return steps.reduce((best, step, at) => Math.abs(x(step) - wanted) < Math.abs(x(steps[best]) - wanted) ? at : best, 0);
  };
  svg.addEventListener("pointermove", (event) => {
    const at = nearest(event);
    cross.setAttribute("x1", x(steps[at]));
    cross.setAttribute("x2", x(steps[at]));
    V.fill(readout, `step ${steps[at]}: `, lines.map((line) => `${lines.length > 1 ? line.name + " " : ""}${V.shortNumber(line.values[at] ?? NaN)}`).join(" · "));
  });
  svg.addEventListener("pointerleave", () => { cross.setAttribute("x1", -9); cross.setAttribute("x2", -9); V.fill(readout, final); });
  if (onPick) { svg.classList.add("pick"); svg.addEventListener("click", (event) => onPick(steps[nearest(event)])); }
  const final = `last: ${lines.map((line) => V.shortNumber(line.values.filter((v) => Number.isFinite(v)).at(-1) ?? NaN)).join(" · ")}`;
  V.fill(readout, final);
  return V.h("figure.chart", null, head, svg, readout);
};
