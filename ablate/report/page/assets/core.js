// Everything from the data goes into the page as text, never as markup.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function once(make) {
  let made;
  return () => (made === undefined ? (made = make()) : made);
}

const data = once(() => JSON.parse($("#data").textContent));

// What a reload must not lose: a part for each control, by name.
const memory = (() => {
  const key = `ablate:${location.pathname}`;
  let parts = {};
  try { parts = JSON.parse(sessionStorage.getItem(key)) ?? {}; } catch { /* forbidden, or nothing there */ }
  const keep = () => { try { sessionStorage.setItem(key, JSON.stringify(parts)); } catch { /* forbidden */ } };
  return {
    get: (name) => parts[name],
    set(name, value) { parts[name] = value; keep(); },
  };
})();
