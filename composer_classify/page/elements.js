// What several parts of the page use to write on it.

export const find = id => document.getElementById(id);
export const percent = share => `${Math.round(100 * share)}%`;

// An element with properties and children; text is never read as HTML.
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter(child => child !== null && child !== ''));
  return element;
}
