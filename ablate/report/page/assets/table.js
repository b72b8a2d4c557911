// Tables that sort by the buttons of their headers and filter by a form. The HTML holds every number; this reorders it.
function sheet(section) {
  const table = $("table", section);
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];
  const name = `table:${section.id}`;
  const now = { column: null, descending: false, view: "0", text: "", choices: {}, ...memory.get(name) };
  const keys = new Map();
  const words = once(() => rows.map((row) => `${row.textContent} ${row.dataset.words ?? ""}`.toLowerCase()));
  const fitting = new Set(rows);
  const box = $(".scroll", section);
  const CHUNK = 150;
  let limit = CHUNK;
  let ordered = rows;
  const remember = () => memory.set(name, now);

  // The sort keys of a column: numbers where the cell has one; null for what is missing.
  function keysOf(place) {
    if (!keys.has(place)) {
      const numeric = headers[place].dataset.kind === "number";
      keys.set(place, rows.map((row) => {
        const cell = row.cells[place];
        if (!numeric) return cell.textContent.trim() === "–" ? null : cell.textContent.trim();
        return cell.dataset.v === undefined ? null : Number(cell.dataset.v);
      }));
    }
    return keys.get(place);
  }

  const collator = new Intl.Collator("en", { numeric: true });
  function sort() {
    const place = headers.findIndex((header) => header.dataset.key === now.column);
    let order = rows.map((_, index) => index);
    if (place >= 0) {
      const values = keysOf(place);
      const sign = now.descending ? -1 : 1;
      order.sort((a, b) => {
        const [one, other] = [values[a], values[b]];
        if (one === null || other === null) return (one === null) - (other === null) || a - b;
        return sign * (typeof one === "number" ? one - other : collator.compare(one, other)) || a - b;
      });
    }
    for (const header of headers) {
      const chosen = header.dataset.key === now.column;
      header.setAttribute("aria-sort", chosen ? (now.descending ? "descending" : "ascending") : "none");
    }
    ordered = order.map((index) => rows[index]);
    reveal(CHUNK);
  }

  // Only the first rows that fit are in the document, and more as somebody scrolls to them: layout is what takes long.
  function reveal(most) {
    limit = most;
    body.replaceChildren(...ordered.filter((row) => fitting.has(row)).slice(0, limit));
  }
  box.addEventListener("scroll", () => {
    if (limit < fitting.size && box.scrollTop + 2 * box.clientHeight > box.scrollHeight) reveal(limit + CHUNK);
  }, { passive: true });
  addEventListener("beforeprint", () => reveal(Infinity));

  // A column is sorted best first, then the other way round, then in the order of the study again.
  function press(header) {
    const first = header.dataset.first === "descending";
    if (now.column !== header.dataset.key) Object.assign(now, { column: header.dataset.key, descending: first });
    else if (now.descending === first) now.descending = !first;
    else now.column = null;
    sort();
    remember();
  }

  function filter() {
    const wanted = now.text.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = Object.entries(now.choices).filter(([, value]) => value !== "");
    fitting.clear();
    rows.forEach((row, index) => {
      const choices = chosen.length ? JSON.parse(row.dataset.choices) : {};
      const fits = chosen.every(([key, value]) => [choices[key]].flat().includes(value))
        && wanted.every((word) => words()[index].includes(word));
      if (fits) fitting.add(row);
    });
    reveal(CHUNK);
    const shown = fitting.size;
    const count = $(".count", section);
    if (count) count.textContent = `${shown === rows.length ? "" : `${shown} of `}${rows.length} ${section.dataset.noun}`;
    const none = $(".none", section);
    if (none) none.hidden = shown > 0;
  }

  function view() {
    table.dataset.view = now.view;
    for (const about of $$("[data-about]", section)) about.hidden = about.dataset.about !== now.view;
  }

  for (const header of headers) $("button", header)?.addEventListener("click", () => press(header));
  const form = $("form", section);
  if (form) {
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", (event) => {
      const control = event.target;
      if (control.name === "text") now.text = control.value;
      else if (control.name === "view") { now.view = control.value; view(); }
      else now.choices[control.name.slice(2)] = control.value;
      filter();
      remember();
    });
    $(".reset", form)?.addEventListener("click", () => {
      Object.assign(now, { text: "", choices: {}, column: null });
      fill();
      sort();
      filter();
      remember();
    });
  }
  function fill() {
    for (const control of form?.elements ?? []) {
      if (control.name === "text") control.value = now.text;
      else if (control.name === "view") control.checked = control.value === now.view;
      else if (control.name?.startsWith("f:")) {
        control.value = now.choices[control.name.slice(2)] ?? "";
        if (control.selectedIndex < 0) control.value = now.choices[control.name.slice(2)] = "";
      }
    }
  }
  if (!$$("[name=view]", section).some((one) => one.value === now.view)) now.view = "0";
  fill();
  view();
  if (now.column !== null) sort();
  filter();
}
