  // sortable tables: every heading becomes a button
  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = make("button", { type: "button" }, head.textContent);
      head.textContent = "";
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
        const compare = (a, b) => {
          const [x, y] = [key(a), key(b)], [m, n] = [Number(x), Number(y)];
          const order = x !== "" && y !== "" && !Number.isNaN(m) && !Number.isNaN(n) ? m - n : x.localeCompare(y, undefined, { numeric: true });
          return down ? -order : order;
        };
        const body = table.tBodies[0];
        body.append(...[...body.rows].sort(compare));
      });
    });
  };
  document.querySelectorAll("table.sortable").forEach(sortable);

  // the values of a verified step, made when they are asked for
  const headings = ["", "value", "operator", "from", "type", "error of scale", "tolerance", "used of it", "max error", "mean error", "cosine", "PSNR, dB"];
  const valueTable = (rows) => {
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...headings.map((h, i) => make("th", { scope: "col", class: i >= 5 ? "n" : null }, h)))));
    const body = make("tbody");
    for (const row of rows) {
      const [agrees, ...rest] = row;
      const used = row[7];
      const line = make("tr", { class: agrees ? null : "off", title: row[12] || null });
      line.append(make("td", { "data-v": agrees ? 1 : 0 }, make("span", { "aria-hidden": true }, agrees ? "✓" : "✕"), make("span", { class: "unseen" }, agrees ? "agrees" : "diverges")));
      rest.slice(0, 4).forEach((text, i) => line.append(make("td", { title: text || null }, i === 0 ? make("code", {}, text) : text)));
      const number = (v, text) => make("td", { class: "n", "data-v": typeof v === "number" ? v : -1 }, text ?? figure(v));
      line.append(
        number(row[5]),
        make("td", { class: "n" }, row[6]),
        make("td", { class: "n", "data-v": used ?? -1 }, ...(used === null ? ["–"] : [make("span", { class: "gauge", "aria-hidden": true }, make("i", { style: `--w:${Math.min(100, 100 * used)}%` })), percent(used)])),
        number(row[8]),
        number(row[9]),
        number(row[10], typeof row[10] === "number" ? row[10].toFixed(6) : undefined),
        number(row[11]),
      );
      body.append(line);
    }
    table.append(body);
    sortable(table);
    return table;
  };
  document.querySelectorAll("details.values").forEach((details) => {
    details.addEventListener("toggle", () => {
      const place = details.querySelector(".scroll");
      if (details.open && !place.firstChild) place.append(valueTable(data.rows[Number(details.dataset.step)]));
    });
  });

  // the error along the network: a place in the drawing names its value, and the command that shows its layer
  const quoted = (text) => /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
  document.querySelectorAll("figure.curve").forEach((figure) => {
    const step = Number(figure.dataset.step), points = data.curves[step], at = figure.querySelector(".at"), place = figure.querySelector("input");
    const say = () => {
      const row = data.rows[step][points[Number(place.value)]];
      at.textContent = "";
      at.append(make("code", {}, row[1]), `: ${row[0] ? "" : "diverges, "}${row[7] === null ? "no tolerance" : `${percent(row[7])} of its tolerance`}. `);
      if (figure.dataset.file) at.append(make("code", {}, `coreproof view ${quoted(figure.dataset.file)} --layer ${quoted(row[1])}`));
    };
    place.addEventListener("input", say);
  });

  // a photo at full size
  const large = document.getElementById("large");
  document.querySelectorAll(".enlarge").forEach((button) => button.addEventListener("click", () => {
    large.querySelector(".framed").replaceChildren(...[...button.querySelector(".framed").children].map((child) => child.cloneNode(true)));
    large.showModal();
  }));

  const c = data.comparison;
  if (!c) return;
  const pairs = new Map(c.pairs.map((p) => [`${p.a},${p.b}`, p]));
  const pairOf = (a, b) => pairs.get(a < b ? `${a},${b}` : `${b},${a}`);
  const className = (index) => c.classes[index] ?? `class ${index}`;
  // a model as people call it, with its short name beside
  const spoken = (m) => c.called[m] && c.called[m].toLowerCase() !== c.models[m].toLowerCase() ? [c.called[m], " ", make("code", {}, c.models[m])] : [make("code", {}, c.models[m])];

  const kappa = (p) => p.kappa === null ? "undefined" : p.kappa.toFixed(3);

  // the matrix: what its cells show, and how warm they are
  const measures = {
    count: { of: (p) => p.share, show: (p) => [String(p.count), percent(p.share)], good: 1, text: "Photos with the same first class. Green is complete agreement." },
    kappa: { of: (p) => p.kappa ?? 1, show: (p) => [kappa(p), percent(p.share)], good: 1, text: "Cohen’s κ: agreement beyond chance; 1 is complete. It is undefined where both name one class on every photo." },
    overlap: { of: (p) => p.overlap, show: (p) => [percent(p.overlap), "of 5"], good: 1, text: "How many of the five first classes both name, on average." },
    divergence: { of: (p) => p.divergence, show: (p) => [figure(p.divergence), "0 to 1"], good: 0, text: "Mean Jensen–Shannon divergence of all probabilities; 0 is equal." },
  };
  const cells = [...document.querySelectorAll(".cell")];
  const paint = (name) => {
    const measure = measures[name];
    const values = c.pairs.map(measure.of);
    const far = Math.max(1e-3, ...values.map((v) => Math.abs(v - measure.good)));
    // below a tenth of full scale nothing is alarming, however the pairs rank among themselves
    const span = Math.max(far, 0.1);
    for (const cell of cells) {
      const pair = pairOf(Number(cell.dataset.a), Number(cell.dataset.b));
      const t = Math.abs(measure.of(pair) - measure.good) / span;
      cell.style.setProperty("--heat", t < 0.5
        ? `color-mix(in oklab, var(--heat-mid) ${200 * t}%, var(--heat-good))`
        : `color-mix(in oklab, var(--heat-bad) ${200 * (t - 0.5)}%, var(--heat-mid))`);
      const [big, little] = measure.show(pair);
      cell.querySelector("b").textContent = big;
      cell.querySelector("small").textContent = little;
    }
    document.getElementById("measure-text").textContent = measure.text;
  };
  document.querySelectorAll("input[name=measure]").forEach((input) => input.addEventListener("change", () => paint(input.value)));
  if (c.pairs.length) paint("count");

  // arrows walk through the matrix
  const columns = c.models.length;
  const cellAt = (a, b) => document.querySelector(`.cell[data-a="${a}"][data-b="${b}"]`);
  cells.forEach((cell) => cell.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    let [a, b] = [Number(cell.dataset.a) + step[0], Number(cell.dataset.b) + step[1]];
    if (a === b) [a, b] = [a + step[0], b + step[1]];
    if (a >= 0 && b >= 0 && a < columns && b < columns) cellAt(a, b)?.focus();
  }));

  // two models side by side on the same photos
  const panel = document.getElementById("pair");
  const bars = (model, other, photo) => {
    const named = new Set(c.top[other][photo].map(([k]) => k));
    const truth = c.photos[photo].truth;
    return make("ol", { class: "bars" }, ...c.top[model][photo].map(([k, p]) =>
      make("li", { class: k === truth ? "right" : named.has(k) ? "shared" : null, style: `--p:${(100 * p).toFixed(1)}%`, title: className(k) },
        make("span", {}, className(k)), make("span", {}, percent(p)))));
  };
  const picture = (photo) => photo.src ? make("img", { src: photo.src, alt: photo.name, loading: "lazy" }) : null;
  const card = (a, b, k, note) => {
    const photo = c.photos[k];
    return make("li", {},
      make("figure", {}, picture(photo)),
      make("div", { class: "what" }, photo.truth === null ? null : make("b", {}, className(photo.truth)), make("small", {}, photo.name), note ? make("small", {}, note) : null),
      make("div", { class: "two" }, ...[[a, b], [b, a]].map(([m, o]) => make("div", {}, make("h4", {}, ...spoken(m)), bars(m, o, k)))));
  };
  const PAGE = 12;
  const fill = (list, items, a, b) => {
    let shown = 0;
    const more = make("button", { type: "button", class: "more" }, "Show more");
    const next = () => {
      list.append(...items.slice(shown, shown + PAGE).map(([k, note]) => card(a, b, k, note)));
      shown += PAGE;
      if (shown >= items.length) more.remove();
    };
    more.addEventListener("click", next);
    list.after(more);
    next();
  };
  const open = (a, b, from) => {
    const pair = pairOf(a, b), differ = c.total - pair.count;
    cells.forEach((cell) => cell.setAttribute("aria-pressed", String(cell === from)));
    const divergence = (v) => `divergence ${figure(v)}`;
    const lists = {
      differ: [`differ (${counted(differ)})`, pair.differ.map((k) => [k, ""])],
      most: ["furthest apart", pair.most.map(([k, v]) => [k, divergence(v)])],
      least: ["closest", pair.least.map(([k, v]) => [k, divergence(v)])],
    };
    const place = make("div");
    const show = (name) => {
      place.textContent = "";
      const items = lists[name][1];
      if (!items.length) { place.append(make("p", { class: "hint" }, "They name the same class on every photo.")); return; }
      if (name === "differ" && items.length < differ) place.append(make("p", { class: "hint" }, `The ${items.length} furthest apart of ${counted(differ)}; ${c.everything ? "comparison.json has all." : "coreproof compare --serve shows all."}`));
      const list = make("ul", { class: "pairs" });
      place.append(list);
      fill(list, items, a, b);
    };
    const first = differ ? "differ" : "most";
    const choice = make("fieldset", { class: "choice" }, make("legend", { class: "unseen" }, "Which photos"),
      ...Object.entries(lists).map(([name, [label]]) => make("label", {},
        make("input", { type: "radio", name: "list", value: name, checked: name === first, onchange: () => show(name) }), make("span", {}, label))));
    const close = () => { panel.hidden = true; from.setAttribute("aria-pressed", "false"); from.focus(); };
    panel.textContent = "";
    panel.append(
      make("header", {}, make("h3", {}, ...spoken(a), " and ", ...spoken(b), differ ? ` differ on ${counted(differ)} of ${photoCount(c.total)}` : ` agree on all ${photoCount(c.total)}`),
        make("button", { type: "button", class: "close", "aria-label": "Close", onclick: close }, "✕")),
      make("p", { class: "hint" }, `Same class on ${percent(pair.share)} (95% interval ${percent(pair.low)} to ${percent(pair.high)}${c.pictures === c.total ? "" : `, over ${c.pictures} pictures`}), κ ${kappa(pair)}, ${percent(pair.overlap)} of the top 5 shared, mean divergence ${figure(pair.divergence)}.`),
      choice,
      make("p", { class: "key" }, make("span", {}, make("i", { style: "--c:var(--good-soft)" }), "the true class"), make("span", {}, make("i", { style: "--c:var(--accent-soft)" }), "named by both"), make("span", {}, make("i", { style: "--c:var(--tint)" }), "named by one")),
      place);
    panel.onkeydown = (event) => { if (event.key === "Escape") close(); };
    show(first);
    panel.hidden = false;
    panel.focus({ preventScroll: true });
    panel.scrollIntoView({ block: "nearest" });
    history.replaceState(null, "", `#${[a, b].map((m) => encodeURIComponent(c.models[m]).replaceAll("~", "%7E")).join("~")}`);
  };
  cells.forEach((cell) => cell.addEventListener("click", () => open(Number(cell.dataset.a), Number(cell.dataset.b), cell)));

  // a link to a pair opens it
  const decoded = (text) => { try { return decodeURIComponent(text); } catch { return text; } };
  const linked = location.hash.slice(1).split("~").map(decoded).map((name) => c.models.indexOf(name));
  if (linked.length === 2 && linked.every((i) => i >= 0) && linked[0] !== linked[1]) open(linked[0], linked[1], cellAt(linked[0], linked[1]));

  // most and least certain
  const select = document.getElementById("certain-model"), certain = document.getElementById("certain");
  const row = (title, items, model) => [make("h3", {}, title), make("ul", {}, ...items.map(([k, p]) => {
    const photo = c.photos[k], [index] = c.top[model][k][0];
    const judged = photo.truth === null ? "" : photo.truth === index ? ", right" : `, is ${className(photo.truth)}`;
    return make("li", {}, picture(photo), make("b", {}, className(index)), make("small", {}, percent(p) + judged));
  }))];
  const showCertain = () => {
    const model = c.models.indexOf(select.value), lists = c.certain[select.value];
    certain.textContent = "";
    certain.append(...row("Most certain", lists.most, model), ...row("Least certain", lists.least, model));
  };
  select.addEventListener("change", showCertain);
  showCertain();
