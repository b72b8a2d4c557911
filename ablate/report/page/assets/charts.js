// Vega-Lite charts. `ast` evaluates expressions without eval, so that the page can forbid it.
const colours = () => {
  const of = (kind) => getComputedStyle($(`#colours .${kind}`)).color;
  return { ink: of("ink"), soft: of("soft"), line: of("line"), paper: of("paper"), accent: of("accent") };
};

function merged(base, over) {
  if (typeof base !== "object" || base === null || Array.isArray(base)) return over;
  const all = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const inner = typeof value === "object" && value !== null && !Array.isArray(value);
    all[key] = inner ? merged(base[key] ?? {}, value) : value;
  }
  return all;
}

function themed(spec) {
  const { ink, soft, line, accent } = colours();
  const font = getComputedStyle(document.body).fontFamily;
  const text = { labelColor: soft, titleColor: ink, labelFont: font, titleFont: font };
  return { ...spec, background: null, config: merged(spec.config ?? {}, {
    background: null, font,
    view: { stroke: line },
    axis: { ...text, gridColor: line, domainColor: soft, tickColor: soft },
    legend: text, header: text,
    title: { color: ink, subtitleColor: soft, font },
    text: { color: ink }, rule: { color: soft },
    mark: { color: accent },
  }) };
}

const isSingle = (spec) => !["facet", "concat", "hconcat", "vconcat", "repeat"].some((key) => key in spec)
  && !["row", "column", "facet"].some((key) => key in (spec.encoding ?? {}));

// The heading of the figure has the title already; several plots stand beside each other only where there is room.
function fitted(place, { title, ...spec }) {
  const said = [title?.subtitle ?? []].flat().filter(Boolean);
  const about = said.length ? { title: { text: said, fontSize: 11, fontWeight: "normal", anchor: "start" } } : {};
  if (isSingle(spec)) return { ...spec, ...about, width: "container", autosize: { type: "fit-x", contains: "padding" } };
  const columns = Math.max(1, Math.min(spec.columns ?? Infinity, Math.floor(place.clientWidth / 430)));
  return "concat" in spec ? { ...spec, ...about, columns } : { ...spec, ...about };
}

async function draw(place, spec) {
  const many = JSON.stringify(spec.data ?? spec.datasets ?? "").length > 400_000;
  place.vega?.finalize();
  place.vega = await vegaEmbed(place, themed(fitted(place, spec)), {
    ast: true, actions: false, logLevel: 1, defaultStyle: false, renderer: many ? "canvas" : "svg",
    tooltip: { disableDefaultStyle: true, theme: "custom" },
  });
  place.dataset.drawn = "";
}

const drawn = new Map();

function show(place, spec) {
  drawn.set(place, spec);
  return draw(place, spec).catch((error) => {
    place.textContent = `This chart could not be drawn: ${error.message}`;
    place.dataset.drawn = "failed";
  });
}

function redraw() {
  for (const [place, spec] of drawn) {
    if (place.isConnected) show(place, spec);
    else drawn.delete(place);
  }
}

function charts() {
  const places = $$(".chart[data-chart]");
  if (!places.length) return;
  const specs = once(() => JSON.parse($("#charts").textContent));
  const begin = (place) => { if (!drawn.has(place)) show(place, specs()[place.dataset.chart]); };
  const heights = memory.get("heights") ?? {};
  for (const place of places) {
    if (heights[place.dataset.chart]) place.style.minHeight = `${heights[place.dataset.chart]}px`;
  }
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      begin(entry.target);
    }
  }, { rootMargin: "400px" });
  for (const place of places) near.observe(place);
  // The others while nothing else is to be done; a page that soon loads again draws no more than is looked at.
  const later = window.requestIdleCallback ?? ((act) => setTimeout(act, 200));
  if (!document.documentElement.dataset.refresh) for (const place of places) later(() => begin(place));
  // What is printed must be drawn, also where nobody has scrolled to.
  addEventListener("beforeprint", () => places.forEach(begin));
}
