// Elements without HTML strings: text from the model and from tools stays text.

export function make(tag, options = {}, ...children) {
  const { on = {}, data = {}, ...properties } = options;
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.dataset, data);
  for (const [name, handler] of Object.entries(on)) element.addEventListener(name, handler);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

export const say = (text) => {
  byId("status").textContent = text;
};
