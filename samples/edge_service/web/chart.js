// Two small charts as SVG. Each carries its numbers as a text alternative.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 320;
const HEIGHT = 110;
const TOP = 14;

export function bars(samples) {
  const most = Math.max(1, ...samples.map((sample) => sample.ms));
  const slot = WIDTH / Math.max(20, samples.length);
  const text = samples.slice(-8).map((s) => `${s.stage} ${Math.round(s.ms)} ms`).join(", ");
  const chart = frame(`Last stages: ${text || "none yet"}`, `${Math.round(most)} ms`);
  samples.forEach((sample, index) => {
    const height = Math.max(2, (sample.ms / most) * (HEIGHT - TOP));
    const bar = draw(chart, "rect", {
      class: sample.stage, x: index * slot + 1, y: HEIGHT - height, width: slot - 2, height, rx: 1.5,
    });
    draw(bar, "title", {}).textContent = `${sample.stage}: ${Math.round(sample.ms)} ms`;
  });
  return chart;
}

export function line(samples) {
  const sizes = samples.map((sample) => sample.bytes / 1e6);
  const most = Math.max(1, ...sizes) * 1.1;
  const step = WIDTH / Math.max(1, sizes.length - 1);
  const chart = frame(`Memory from ${Math.round(sizes[0] ?? 0)} to ${Math.round(sizes.at(-1) ?? 0)} MB`, `${Math.round(most)} MB`);
  const points = sizes.map((size, index) => `${index * step},${HEIGHT - (size / most) * (HEIGHT - TOP)}`);
  if (points.length > 1) {
    draw(chart, "polygon", { class: "area", points: [`0,${HEIGHT}`, ...points, `${WIDTH},${HEIGHT}`].join(" ") });
    draw(chart, "polyline", { class: "line", points: points.join(" ") });
  }
  return chart;
}

function frame(label, top) {
  const chart = document.createElementNS(SVG, "svg");
  for (const [name, value] of Object.entries({ viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }))
    chart.setAttribute(name, value);
  draw(chart, "line", { class: "grid", x1: 0, x2: WIDTH, y1: TOP, y2: TOP });
  draw(chart, "line", { class: "grid", x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 });
  draw(chart, "text", { x: 0, y: TOP - 4 }).textContent = top;
  return chart;
}

function draw(parent, tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}
