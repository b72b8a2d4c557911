const pictureUrl = (all, key) => (key === undefined ? "" : `data:image/png;base64,${all.files[key]}`);

// A panel with what its colours mean below it.
function figure(all, keys, panel, about) {
  const [picture, bar] = keys ?? [];
  const image = picture ? el("img", { src: pictureUrl(all, picture), alt: `${panel}, ${about}` }) : el("div", { class: "missing" }, "not recorded");
  return el("figure", {}, el("figcaption", {}, panel), image, bar ? el("img", { class: "bar", src: pictureUrl(all, bar), alt: `The scale of the colours of ${panel}` }) : null);
}

// Two runs on the same image: one laid over the other under a slider, and all panels of both below.
function pictures(section) {
  const all = data().pictures[section.dataset.study];
  const name = `pictures:${section.dataset.study}`;
  const control = Object.fromEntries($$("select", section).map((select) => [select.name, select]));
  const slider = $("input[type=range]", section);
  const stage = $(".stage", section);
  const preferred = all.panels.includes("prediction") ? "prediction" : all.panels.at(-1);
  const now = { image: 0, panel: preferred, a: 0, b: Math.min(1, all.sides.length - 1), share: 50, ...memory.get(name) };
  if (now.image >= all.images.length) now.image = 0;
  if (now.a >= all.sides.length) now.a = 0;
  if (now.b >= all.sides.length) now.b = 0;

  if (!all.panels.includes(now.panel)) now.panel = preferred;

  const file = (side, panel) => all.index[now.image]?.[side]?.[panel]?.[0];

  function slide() {
    stage.style.setProperty("--share", `${now.share}%`);
    slider.value = now.share;
    slider.setAttribute("aria-valuetext", `${now.share} % ${all.sides[now.a].label}, the rest ${all.sides[now.b].label}`);
  }

  function put(image, side, panel) {
    const source = pictureUrl(all, file(side, panel));
    image.hidden = !source;
    if (source) image.src = source;
    image.alt = source ? `${panel} of ${all.sides[side].label} on ${all.images[now.image]}` : "";
  }

  function fill() {
    control.image.value = now.image;
    control.panel.value = now.panel;
    control.a.value = now.a;
    control.b.value = now.b;
    put($(".under", stage), now.b, now.panel);
    put($(".over", stage), now.a, now.panel);
    $(".label-a", stage).textContent = all.sides[now.a].label;
    $(".label-b", stage).textContent = all.sides[now.b].label;
    $(".nothing", section).hidden = Boolean(file(now.a, now.panel) && file(now.b, now.panel));
    const grid = $(".panels", section);
    grid.replaceChildren(...["a", "b"].map((which) => column(now[which], which.toUpperCase())));
    slide();
    memory.set(name, now);
  }

  function column(side, letter) {
    const figures = all.panels.map((panel) => figure(all, all.index[now.image]?.[side]?.[panel], panel, all.sides[side].label));
    return el("div", { class: "side" }, el("h4", {}, el("span", { class: "letter" }, letter), el("bdi", {}, all.sides[side].label)), ...figures);
  }

  const options = (select, texts) => select.replaceChildren(...texts.map((text, place) => el("option", { value: place }, text)));
  options(control.image, all.images);
  options(control.a, all.sides.map((side) => side.label));
  options(control.b, all.sides.map((side) => side.label));
  control.panel.replaceChildren(...all.panels.map((panel) => el("option", { value: panel }, panel)));
  for (const [key, select] of Object.entries(control)) {
    select.addEventListener("change", () => {
      now[key] = key === "panel" ? select.value : Number(select.value);
      fill();
    });
  }
  slider.addEventListener("input", () => { now.share = Number(slider.value); slide(); memory.set(name, now); });
  fill();
}

// The panels of one run, for its own page.
function panelsOf(study, runId) {
  const all = data().pictures[study];
  const places = (all?.sides ?? []).map((side, place) => ({ ...side, place })).filter((side) => side.run === runId);
  const rows = places.flatMap((side) => all.images.map((image, place) => {
    const files = all.index[place]?.[side.place];
    if (!files) return null;
    const figures = all.panels.filter((panel) => files[panel] !== undefined).map((panel) => figure(all, files[panel], panel, image));
    return el("div", { class: "strip" }, el("p", { class: "soft" }, el("bdi", {}, image), side.epoch === null ? "" : `, epoch ${side.epoch}`), el("div", { class: "row" }, ...figures));
  })).filter(Boolean);
  return rows.length ? [el("h2", {}, "Pictures"), ...rows] : [];
}
