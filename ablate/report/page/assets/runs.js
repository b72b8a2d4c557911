// The pages of single runs: made when somebody opens one, found by the fragment of the address.
function small(grid, label) {
  if (!grid.rows.length) return el("p", { class: "soft" }, "Nothing recorded.");
  const kind = (place) => (grid.numeric.includes(place) ? "n" : null);
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, el("table", {},
    el("thead", {}, el("tr", {}, ...grid.headers.map((text, place) => el("th", { scope: "col", class: kind(place) }, text)))),
    el("tbody", {}, ...grid.rows.map((row) => el("tr", {}, ...row.map((text, place) => el("td", { class: kind(place) }, text)))))));
}

const pairs = (headers, rows, label) => small({ headers, rows, numeric: [] }, label);

function curveSpec(run) {
  const spec = JSON.parse($("#curve").textContent);
  spec.data = { values: run.curve };
  if (run.log_scale) spec.layer[0].encoding.y.scale = { type: "log", nice: true };
  if (run.best_epoch !== null) spec.layer[1].data = { values: [{ epoch: run.best_epoch }] };
  else spec.layer.length = 1;
  return spec;
}

function details(title, ...children) {
  return el("details", {}, el("summary", {}, title), ...children);
}

function command(text) {
  const code = el("code", {}, text);
  const copy = el("button", { type: "button", class: "quiet", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected";
    }
  } }, "Copy");
  return el("div", { class: "command" }, el("pre", { tabindex: 0 }, code), copy);
}

function runPage(key) {
  const study = Object.entries(data().studies).find(([, one]) => one.pages[key]);
  if (!study) return null;
  const [studyKey, { title, settings, pages }] = study;
  const run = pages[key];
  const full = Object.entries({ ...settings, ...run.more_settings }).filter(([, value]) => value !== "–").sort();
  const chart = el("div", { class: "chart" });
  const parts = [
    el("p", { class: "crumbs" }, el("a", { href: `#${studyKey}` }, "← ", el("bdi", {}, title))),
    el("h1", { tabindex: -1 }, el("bdi", {}, run.name)),
    el("p", { class: "state" }, el("span", { class: `chip ${run.status}` }, run.state),
      run.badge ? el("span", { class: "chip external" }, run.badge) : null,
      ...run.tags.map((tag) => el("span", { class: "chip tag" }, el("bdi", {}, tag)))),
    run.message ? el("p", { class: "message" }, run.message) : null,
    el("dl", { class: "facts" }, ...run.facts.map(([name, text]) => el("div", {}, el("dt", {}, name), el("dd", {}, text)))),
    el("h2", {}, "Scores"), small(run.scores, "Scores"),
    el("h2", {}, "Configuration against ", pages[run.baseline] ? el("a", { href: `#${run.baseline}` }, run.against) : run.against),
    run.changes.length ? pairs(["Setting", pages[run.baseline] ? "Baseline" : "Default", "This run"], run.changes, "Configuration against the baseline")
      : el("p", { class: "soft" }, "No setting differs."),
    ...(run.curve.length ? [el("h2", {}, "Learning curve"), el("p", { class: "soft" }, `Loss per epoch${run.log_scale ? ", on a log scale" : ""}${run.best_epoch === null ? "" : `; the dashed line marks the selected epoch, ${run.best_epoch}`}.`), el("div", { class: "card wide" }, chart)] : []),
    ...panelsOf(studyKey, run.run_id),
    ...(run.notes.length || run.remarks.length ? [el("h2", {}, "Notes")] : []),
    ...run.remarks.map(([about, text]) => el("blockquote", {}, el("p", { class: "note" }, text), el("footer", {}, about))),
    run.notes.length ? el("ul", {}, ...run.notes.map((text) => el("li", {}, text))) : null,
    ...(run.command ? [el("h2", {}, "To reproduce"), command(run.command)] : []),
    el("h2", {}, "Epochs"), small(run.epochs, "Epochs"),
    el("h2", {}, "Attempts and environment"), small(run.attempts, "Attempts"),
    el("h2", {}, "Events"), small(run.events, "Events"),
    details(`Whole configuration (${full.length} settings)`, pairs(["Setting", "Value"], full, "Whole configuration")),
  ];
  const article = $("#run");
  article.replaceChildren(...parts.filter((part) => part !== null));
  if (run.curve.length && window.vegaEmbed) show(chart, curveSpec(run));
  return run;
}

const home = document.title;

function route(event) {
  const key = decodeURIComponent(location.hash.slice(1));
  const run = key.startsWith("run-") ? runPage(key) : null;
  $("#run").hidden = run === null;
  $("#overview").hidden = run !== null;
  document.title = run === null ? home : `${run.name} · ${home}`;
  if (run === null) {
    $("#run").replaceChildren();
    if (event) (document.getElementById(key) ?? document.documentElement).scrollIntoView();
  } else if (event) {
    scrollTo(0, 0);
    $("#run h1").focus({ preventScroll: true });
  }
}
