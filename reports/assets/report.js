"use strict";
// Sorting, filtering, tooltips, columns and saving. The page is complete without any of it.
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

  // --- Details open for whoever follows a link to something inside them.
  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let closed = false;
    for (let node = target; node; node = node.parentElement)
      if (node.localName === "details" && !node.open) { node.open = true; closed = true; }
    if (closed) target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);
  reveal();

  for (const button of all("[data-open]")) {
    button.hidden = false;
    button.addEventListener("click", () => all("details.workload").forEach((one) => { one.open = true; }));
  }

  // --- The heat map: rows are filtered by name and verdict, sorted within their suite, columns are hidden.
  const rowsOf = (body) => all("tr:not(.suite)", body);
  const valueAt = (row, column) => {
    if (column === 0) return row.cells[0].textContent;
    const value = row.cells[column].dataset.v;
    return value === undefined ? undefined : Number(value);
  };

  function sortBy(table, column, direction) {
    for (const body of table.tBodies) {
      const rows = rowsOf(body);
      rows.forEach((row, index) => { row.dataset.place ??= index; });
      rows.sort((a, b) => {
        if (!direction) return a.dataset.place - b.dataset.place;
        const [x, y] = [valueAt(a, column), valueAt(b, column)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        return direction * (typeof x === "string" ? x.localeCompare(y) : x - y);
      });
      body.append(...rows);
    }
  }

  function makeSortable(table) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const label = head.querySelector(".arm");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sorter arm";
      button.append(...label.childNodes);
      button.title = table.dataset.sort.replace("{name}", button.textContent);
      label.replaceWith(button);
      button.addEventListener("click", () => {
        const order = column ? ["descending", "ascending", ""] : ["ascending", "descending", ""];
        const turn = order[(order.indexOf(head.getAttribute("aria-sort") ?? "") + 1) % order.length];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (turn) head.setAttribute("aria-sort", turn);
        sortBy(table, column, turn === "ascending" ? 1 : turn === "descending" ? -1 : 0);
      });
    });
    return () => { heads.forEach((head) => head.removeAttribute("aria-sort")); sortBy(table, 0, 0); };
  }

  function makeFilter(form, table, unsort) {
    const output = form.querySelector("output");
    const columns = all("[name=column]", form);
    const apply = () => {
      const name = form.elements.name.value.trim().toLowerCase();
      const glyph = form.elements.verdict.value;
      let shown = 0;
      let total = 0;
      for (const body of table.tBodies) {
        let some = false;
        for (const row of rowsOf(body)) {
          const named = row.cells[0].textContent.toLowerCase().includes(name);
          const judged = !glyph || all("td i", row).some((mark) => mark.textContent === glyph);
          row.hidden = !(named && judged);
          some ||= !row.hidden;
          shown += row.hidden ? 0 : 1;
          total += 1;
        }
        body.hidden = !some;
      }
      for (const box of columns)
        for (const row of table.rows)
          if (row.cells[box.value]) row.cells[box.value].hidden = !box.checked;
      output.textContent = output.dataset.text.replace("{shown}", shown).replace("{total}", total);
    };
    form.hidden = false;
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(() => { unsort(); apply(); }));
    addEventListener("keydown", (event) => {
      const columnsList = form.querySelector(".columns");
      if (event.key === "Escape" && columnsList.open) { columnsList.open = false; columnsList.firstElementChild.focus(); }
    });
    apply();
  }

  // --- Arrow keys move between the cells.
  const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  function moveBy(event, table) {
    const cell = event.target.closest("td, th");
    const move = MOVES[event.key];
    if (!cell || !move || event.altKey || event.ctrlKey || event.metaKey || event.target.localName !== "a") return;
    const rows = Array.from(table.rows).filter((row) => !row.hidden && !row.parentElement.hidden && row.querySelector("td"));
    let [y, x] = [rows.indexOf(cell.parentElement) + move[0], cell.cellIndex + move[1]];
    const width = cell.parentElement.cells.length;
    while (x > 0 && x < width - 1 && rows[y] && rows[y].cells[x].hidden) x += move[1] || 1;
    const link = rows[y] && rows[y].cells[x] && rows[y].cells[x].querySelector("a");
    if (link) { link.focus(); event.preventDefault(); }
  }

  // --- A tooltip repeats the numbers of the detail that a cell links to. Escape closes it, the pointer may enter it.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  let owner = null;
  let timer = 0;

  function fillTip(link) {
    const detail = document.getElementById(link.hash.slice(1));
    const title = document.createElement("b");
    const list = document.createElement("dl");
    title.textContent = link.closest("tr").cells[0].querySelector("a").textContent;
    tip.replaceChildren(title);
    if (detail && detail.localName === "tr") {
      const heads = all("thead th", detail.closest("table"));
      Array.from(detail.cells).forEach((cell, index) => {
        const [term, value] = [document.createElement("dt"), document.createElement("dd")];
        term.textContent = heads[index].textContent;
        value.textContent = cell.textContent;
        list.append(term, value);
      });
      tip.append(list);
    } else if (detail) tip.append(detail.textContent);
    return Boolean(detail);
  }

  function showTip(link) {
    clearTimeout(timer);
    hideTip();
    if (!fillTip(link)) return;
    owner = link;
    link.setAttribute("aria-describedby", "tip");
    tip.hidden = false;
    const box = link.getBoundingClientRect();
    const left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8));
    const below = box.bottom + tip.offsetHeight + 8 < innerHeight;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(below ? box.bottom + 4 : box.top - tip.offsetHeight - 4) + scrollY}px`;
  }

  function hideTip() {
    if (owner) owner.removeAttribute("aria-describedby");
    owner = null;
    tip.hidden = true;
  }

  const later = (act, delay) => { clearTimeout(timer); timer = setTimeout(act, delay); };
  for (const table of all("table.main")) {
    const cellLink = (event) => event.target.closest && event.target.closest("td a");
    table.addEventListener("mouseover", (event) => { const link = cellLink(event); if (link && link !== owner) later(() => showTip(link), 350); });
    table.addEventListener("mouseout", () => later(hideTip, 200));
    table.addEventListener("focusin", (event) => { const link = cellLink(event); if (link && link.matches(":focus-visible")) showTip(link); });
    table.addEventListener("focusout", () => later(hideTip, 100));
    table.addEventListener("keydown", (event) => moveBy(event, table));
    const unsort = makeSortable(table);
    const form = table.closest(".scroll").previousElementSibling;
    if (form && form.matches(".tools")) makeFilter(form, table, unsort);
  }
  tip.addEventListener("mouseover", () => clearTimeout(timer));
  tip.addEventListener("mouseout", () => later(hideTip, 200));
  addEventListener("keydown", (event) => { if (event.key === "Escape") { clearTimeout(timer); hideTip(); } });

  // --- The data comes out of the page again.
  async function unpack(id) {
    const text = atob(document.getElementById(id).textContent.trim());
    const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  const quoted = (value) => {
    const text = String(value ?? "");
    // A cell that starts like a formula would be run by a spreadsheet.
    const inert = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(inert) ? `"${inert.replaceAll('"', '""')}"` : inert;
  };

  function asCsv(json) {
    const run = JSON.parse(json);
    const units = Object.fromEntries(run.workloads.map((one) => [one.name, one.unit]));
    const lines = ["workload,arm,boot,round,value,unit,inside_ns,outside_ns,excluded"];
    for (const visit of run.visits)
      for (const [arm, samples] of Object.entries(visit.samples))
        samples.values.forEach((value, round) => lines.push([
          visit.workload, arm, visit.boot, round, value, units[visit.workload],
          samples.inside_ns?.[round], samples.outside_ns?.[round], visit.excluded,
        ].map(quoted).join(",")));
    return lines.join("\r\n") + "\r\n";
  }

  function save(text, name, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  for (const button of all("[data-save]")) {
    const place = button.closest(".run-data");
    button.parentElement.hidden = false;
    button.addEventListener("click", async () => {
      const stem = place.dataset.label.replace(/(\.json)?(\.gz)?$/, "").replace(/[^\w.-]+/g, "_").slice(0, 80) || "run";
      try {
        const json = await unpack(button.dataset.run);
        if (button.dataset.save === "json") save(json, `${stem}.json`, "application/json");
        else save(asCsv(json), `${stem}.csv`, "text/csv");
      } catch (error) {
        const status = button.parentElement.querySelector("[role=status]");
        status.textContent = status.dataset.failed;
      }
    });
  }
})();
