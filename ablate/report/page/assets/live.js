// Starts everything, and looks for a newer version of the page while runs train.
const NAMES = { "": "auto", light: "light", dark: "dark" };

function theme() {
  const button = $("#theme");
  const root = document.documentElement;
  const label = () => { button.textContent = `Theme: ${NAMES[root.dataset.theme ?? ""]}`; };
  button.hidden = false;
  button.addEventListener("click", () => {
    const order = ["", "light", "dark"];
    const next = order[(order.indexOf(root.dataset.theme ?? "") + 1) % order.length];
    if (next) root.dataset.theme = next;
    else delete root.dataset.theme;
    try { localStorage.setItem("ablate-theme", next); } catch { /* forbidden */ }
    label();
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  label();
}

function live() {
  const root = document.documentElement;
  const every = Number(root.dataset.refresh) * 1000;
  if (!every) return;
  const button = $("#pause");
  const text = $("#live");
  let last = 0;
  for (const kind of ["pointerdown", "pointermove", "keydown", "wheel", "touchmove"]) {
    addEventListener(kind, (event) => { if (kind !== "pointermove" || event.buttons) last = Date.now(); }, { passive: true });
  }
  const paused = () => memory.get("paused") === true;
  const say = () => {
    const age = Date.now() / 1000 - Number(root.dataset.written);
    const stale = age > Math.max(60, every / 100);
    text.textContent = paused() ? "Updates are paused." : stale
      ? `No newer version for ${Math.round(age / 60)} min: whoever wrote this page may have ended.`
      : `Live: looks for a newer version every ${every / 1000} s.`;
    button.textContent = paused() ? "Go on" : "Pause";
  };
  button.hidden = false;
  button.addEventListener("click", () => { memory.set("paused", !paused()); say(); });
  say();
  // Not under somebody's hands, and not where nobody looks.
  const look = () => {
    say();
    if (paused() || document.hidden || Date.now() - last < 2000) setTimeout(look, 1000);
    else { leave(); location.reload(); }
  };
  setTimeout(look, every);
}

function leave() {
  const heights = {};
  for (const place of $$(".chart[data-drawn]")) heights[place.dataset.chart] = place.offsetHeight;
  const focus = document.activeElement;
  const scrolls = $$(".scroll").map((one) => [one.scrollLeft, one.scrollTop]);
  memory.set("heights", heights);
  memory.set("place", {
    x: scrollX, y: scrollY, hash: location.hash, scrolls,
    open: $$("details").map((one) => one.open),
    focus: focus?.id || null, selection: focus?.type === "search" ? [focus.selectionStart, focus.selectionEnd] : null,
  });
}

function comeBack() {
  const place = memory.get("place");
  memory.set("place", null);
  if (!place || place.hash !== location.hash) return;
  const boxes = $$("details");
  if (boxes.length === place.open.length) boxes.forEach((one, index) => { one.open = place.open[index]; });
  $$(".scroll").forEach((one, index) => one.scrollTo(...(place.scrolls[index] ?? [0, 0])));
  if (place.focus) {
    const focus = document.getElementById(place.focus);
    focus?.focus({ preventScroll: true });
    if (place.selection) focus?.setSelectionRange?.(...place.selection);
  }
  scrollTo(place.x, place.y);
}

theme();
$$("section.sheet").forEach(sheet);
route();
charts();
$$("section.pictures").forEach(pictures);
addEventListener("hashchange", route);
if (document.documentElement.dataset.refresh) history.scrollRestoration = "manual";
comeBack();
live();
document.documentElement.dataset.ready = "";
