// Shows /openapi.json without any library, so that it works offline.

import { byId, make } from "./dom.js";

const spec = await (await fetch("/openapi.json")).json();

const resolve = (schema) => (schema?.$ref ? spec.components.schemas[schema.$ref.split("/").at(-1)] : schema);

function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.map(kind).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  return schema.type ?? "any";
}

function fields(schema) {
  const body = resolve(schema);
  if (!body?.properties) return make("p", { className: "quiet", textContent: kind(schema) });
  return make("ul", {}, ...Object.entries(body.properties).map(([name, property]) => make(
    "li", {},
    make("code", { textContent: name }), ` ${kind(property)}`,
    body.required?.includes(name) ? make("strong", { textContent: " required" }) : null,
    property.description ? make("span", { className: "quiet", textContent: ` ${property.description}` }) : null,
  )));
}

function operation(path, verb, details) {
  const asked = details.requestBody?.content?.["application/json"]?.schema;
  const answers = Object.entries(details.responses ?? {}).map(([status, { description, content }]) => make(
    "li", {}, make("code", { textContent: status }), ` ${description} ${kind(content?.["application/json"]?.schema)}`,
  ));
  const parameters = (details.parameters ?? []).map((parameter) => make(
    "li", {}, make("code", { textContent: parameter.name }), ` in ${parameter.in}, ${kind(parameter.schema)}`,
  ));
  return make("article", {}, make(
    "details", {},
    make("summary", {}, make("span", { className: "verb", textContent: verb.toUpperCase() }), make("code", { textContent: path })),
    make("p", { textContent: details.description ?? details.summary ?? "" }),
    parameters.length ? make("ul", { ariaLabel: "Parameters" }, ...parameters) : null,
    asked ? make("h3", { textContent: `Body: ${kind(asked)}` }) : null,
    asked ? fields(asked) : null,
    make("h3", { textContent: "Answers" }),
    make("ul", {}, ...answers),
  ));
}

byId("title").textContent = spec.info.title;
byId("version").textContent = `${spec.info.description} Version ${spec.info.version}.`;
const groups = Map.groupBy(
  Object.entries(spec.paths).flatMap(([path, verbs]) => Object.entries(verbs).map(([verb, details]) => ({ path, verb, details }))),
  ({ details }) => details.tags?.[0] ?? "Other",
);
const sections = [...groups].map(([tag, found]) => make(
  "section", {},
  make("h2", { textContent: tag }),
  ...found.map(({ path, verb, details }) => operation(path, verb, details)),
));
const schemas = Object.entries(spec.components?.schemas ?? {}).map(([name, schema]) => make(
  "article", {},
  make("details", {}, make("summary", {}, make("code", { textContent: name })), make("p", { textContent: schema.description ?? "" }), fields(schema)),
));
byId("operations").replaceChildren(...sections, make("section", {}, make("h2", { textContent: "Schemas" }), ...schemas));
byId("operations").removeAttribute("aria-busy");
