// The side panel: the tool catalog, and charts that refresh while they are seen.

import { get, post } from "./api.js";
import { bars, line } from "./chart.js";
import { byId, make, say } from "./dom.js";

const REFRESH_MS = 3000;

export async function showCatalog() {
  const catalog = await get("/v1/tools");
  byId("bundle").textContent = `${catalog.base_model} · ${catalog.bundle}`;
  const sets = catalog.tool_sets.map(({ name, tools }) => make(
    "details",
    { className: "toolset" },
    make("summary", {}, name, " ", make("span", { className: "quiet", textContent: `${tools.length} tools` })),
    make("ul", {}, ...tools.map(toolItem)),
  ));
  const held = catalog.held.map(heldItem);
  byId("tools").replaceChildren(...held, ...(sets.length ? sets : [make("p", { className: "quiet", textContent: "No server is connected." })]));
}

function heldItem({ tool_set, since, sha256, tool }) {
  const accept = async (click) => {
    click.target.disabled = true;
    await post("/v1/tools/accept", { tool_set, tool: tool.name, sha256 }).catch((error) => say(error.message));
    await showCatalog();
  };
  const name = `${tool_set}.${tool.name}`;
  return make(
    "div",
    { className: "approval", role: "group", ariaLabel: `Held: ${name}` },
    make("h3", { textContent: `${name} is held` }),
    make("p", { className: "quiet", textContent: `It changed since its ${since}: ${tool.description}` }),
    make("p", { textContent: `It says: ${hints(tool)}.` }),
    make("pre", { textContent: JSON.stringify(tool.input_schema.properties ?? {}, null, 1), tabIndex: 0, ariaLabel: "Parameters" }),
    make("div", { className: "actions" }, make("button", { type: "button", textContent: `Accept ${tool.name}`, on: { click: accept } })),
  );
}

function hints({ read_only, destructive, idempotent }) {
  const said = [
    { true: "reads only", false: "changes things" }[read_only],
    { true: "may destroy", false: "destroys nothing" }[destructive],
    { true: "a repetition changes nothing", false: "a repetition does more" }[idempotent],
  ].filter(Boolean);
  return said.join(", ") || "nothing of whether it changes things";
}

function toolItem(tool) {
  const asks = tool.asks ? make("span", { className: "asks", textContent: "asks first" }) : null;
  const described = tool.description.split("\n")[0];
  return make("li", {}, make("span", { className: "code", textContent: tool.name }), asks, make("p", { textContent: described }));
}

export function initSide() {
  const side = byId("side");
  const opener = byId("open-side");
  const toggle = (open) => {
    side.hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
    if (open) refresh();
  };
  opener.addEventListener("click", () => toggle(side.hidden));
  document.addEventListener("keydown", (press) => {
    if (press.key !== "Escape" || side.hidden) return;
    toggle(false);
    opener.focus();
  });
  setInterval(() => {
    if (!side.hidden && !document.hidden) refresh();
  }, REFRESH_MS);
}

async function refresh() {
  const stats = await get("/v1/stats").catch(() => null);
  if (!stats) return;
  byId("stages-chart").replaceChildren(bars(stats.stages));
  byId("memory-chart").replaceChildren(line(stats.memory));
  const last = stats.stages.at(-1);
  byId("stages-now").textContent = last ? `${last.stage} ${Math.round(last.ms)} ms` : "";
  const memory = stats.memory.at(-1);
  byId("memory-now").textContent = memory ? `${Math.round(memory.bytes / 1e6)} MB` : "";
}
