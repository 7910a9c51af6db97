// What a reader may do besides reading: switch colours, filter, sort, highlight, enlarge.
// The page is complete without this file; everything it shows begins hidden.
"use strict";
(() => {
  const says = /*words*/{};
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const root = document.documentElement;

  // colours: as the system, light, dark
  const schemes = ["system", "light", "dark"];
  const remember = (value) => { try { localStorage.setItem("bnorder-scheme", value); } catch { /* from disk: not kept */ } };
  const recall = () => { try { return localStorage.getItem("bnorder-scheme"); } catch { return null; } };
  const scheme = document.getElementById("scheme");
  const show = (value) => {
    if (value === "system") root.removeAttribute("data-scheme"); else root.dataset.scheme = value;
    scheme.textContent = says[value];
    scheme.value = value;
  };
  show(schemes.includes(recall()) ? recall() : "system");
  scheme.parentElement.hidden = false;
  scheme.addEventListener("click", () => {
    const next = schemes[(schemes.indexOf(scheme.value) + 1) % schemes.length];
    show(next);
    remember(next);
  });

  // the table of contents follows the reader
  const links = new Map(all(".toc a").map((a) => [decodeURIComponent(a.hash.slice(1)), a]));
  const headings = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  let waiting = false;
  const follow = () => {
    waiting = false;
    let current = headings[0];
    for (const heading of headings) if (heading.getBoundingClientRect().top < 120) current = heading;
    for (const link of links.values()) link.removeAttribute("aria-current");
    if (current) links.get(current.id).setAttribute("aria-current", "true");
  };
  addEventListener("scroll", () => { if (!waiting) { waiting = true; requestAnimationFrame(follow); } }, { passive: true });
  follow();

  // filter claims by verdict, in the table and in the text
  for (const bar of all(".filters")) {
    bar.hidden = false;
    const buttons = all("button[data-filter]", bar);
    const rows = all(".verdicts tbody tr");
    const count = bar.querySelector(".count");
    const apply = (chosen) => {
      for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.filter === chosen));
      for (const item of [...rows, ...all("article.claim")]) item.hidden = chosen !== "all" && item.dataset.verdict !== chosen;
      count.textContent = chosen === "all" ? "" : says.count.replace("{shown}", rows.filter((r) => !r.hidden).length).replace("{all}", rows.length);
    };
    for (const button of buttons) button.addEventListener("click", () => apply(button.dataset.filter));
    // a link into the evidence must never lead to something hidden
    addEventListener("hashchange", () => { const to = document.getElementById(location.hash.slice(1)); if (to && to.hidden) { apply("all"); to.scrollIntoView(); } });
  }

  // highlight an ordering in every figure
  let lit = null;
  const highlight = (ordering) => {
    lit = lit === ordering ? null : ordering;
    for (const part of all("svg [data-o]")) part.style.opacity = !lit || part.dataset.o === lit ? "" : "0.12";
    for (const button of all("button[data-highlight]")) button.setAttribute("aria-pressed", String(button.dataset.highlight === lit));
  };
  for (const key of all("[data-key]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.highlight = key.dataset.key;
    button.setAttribute("aria-pressed", "false");
    button.title = says.highlight;
    button.append(...key.childNodes);
    key.replaceWith(button);
    button.addEventListener("click", () => highlight(button.dataset.highlight));
  }

  // sort tables by a column
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    const number = text === "" ? NaN : Number(text);
    return Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), undefined, { numeric: true });
  for (const table of all("table.sortable")) {
    all("thead th", table).forEach((head, column) => {
      if (head.dataset.kind === "none") return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => (up ? 1 : -1) * compare(value(a, column), value(b, column)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  // enlarge a figure
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-label", says.enlarged);
  document.body.append(dialog);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  for (const figure of all("figure.figure")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.textContent = says.enlarge;
    button.setAttribute("aria-label", says.enlargeLabel.replace("{number}", figure.querySelector("figcaption b").textContent.match(/\d+/)[0]));
    figure.querySelector(".made").prepend(button);
    button.addEventListener("click", () => {
      const form = document.createElement("form");
      form.method = "dialog";
      const close = document.createElement("button");
      close.textContent = says.close;
      form.append(close);
      dialog.replaceChildren(form, figure.querySelector(".canvas svg").cloneNode(true));
      dialog.showModal();
    });
  }
})();
