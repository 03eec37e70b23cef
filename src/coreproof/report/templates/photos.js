  // every class: how often each model names it, and is right about it
  const wide = c.models.map((_, m) => m);
  const chosen = { class: null };
  const classes = document.getElementById("classes-table");
  const classRows = c.perclass.map(([k, known, named, right]) => ({
    k, known, named, right, name: className(k).toLowerCase(), spread: Math.max(...named) - Math.min(...named),
  }));
  const CLASSES = 40;
  const classTable = (words, everything) => {
    const found = classRows.filter((row) => words.every((word) => row.name.includes(word)));
    const shown = everything ? found : found.slice(0, CLASSES);
    const truths = classRows.some((row) => row.known);
    const head = make("tr", {}, make("th", { scope: "col" }, "class"), truths ? make("th", { scope: "col", class: "n" }, "photos of it") : null,
      ...wide.map((m) => make("th", { scope: "col", class: "n", title: c.called[m] || null }, c.models[m])));
    const body = make("tbody", {}, ...shown.map((row) => make("tr", {},
      make("th", { scope: "row" }, make("button", { type: "button", class: "link", onclick: () => only(row.k) }, className(row.k))),
      truths ? make("td", { class: "n", "data-v": row.known }, counted(row.known)) : null,
      ...wide.map((m) => make("td", { class: row.spread ? "n" : "n even", "data-v": row.named[m] }, counted(row.named[m]),
        row.known ? make("small", {}, ` ${counted(row.right[m])} right`) : null)))));
    const table = make("table", {}, make("caption", { class: "unseen" }, "How often each model names each class"), make("thead", {}, head), body);
    sortable(table);
    classes.replaceChildren(table);
    const left = found.length - shown.length;
    document.getElementById("classes-found").replaceChildren(
      found.length ? `${counted(found.length)} ${found.length === 1 ? "class" : "classes"}, those first that the models name most unequally often. ` : "No class is called that. ",
      ...(left > 0 ? [make("button", { type: "button", class: "link", onclick: () => classTable(words, true) }, `Show all ${counted(found.length)}`)] : []));
  };
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const classSearch = document.getElementById("class-search");
  classSearch.addEventListener("input", () => classTable(words(classSearch.value), false));
  classTable([], false);

  // the photos of this page: found by name or class, kept by what the models say of them
  const search = document.getElementById("photo-search"), kind = document.getElementById("photo-kind"), of = document.getElementById("photo-model");
  const list = document.getElementById("photo-list"), found = document.getElementById("photos-found"), more = document.getElementById("photos-more");
  const first = (m, k) => c.top[m][k][0][0];
  const texts = c.photos.map((photo, k) => [photo.name, ...(photo.truth === null ? [] : [className(photo.truth)]), ...wide.map((m) => className(first(m, k)))].join("\n").toLowerCase());
  const differ = (k) => c.main.some((m) => first(m, k) !== first(c.main[0], k));
  const kinds = {
    all: () => true,
    differ,
    same: (k) => !differ(k),
    wrong: (k, ms) => c.photos[k].truth !== null && ms.some((m) => first(m, k) !== c.photos[k].truth),
    right: (k, ms) => c.photos[k].truth !== null && ms.every((m) => first(m, k) === c.photos[k].truth),
  };
  const tile = (k) => make("li", {}, picture(c.photos[k]), make("div", { class: "what" },
    c.photos[k].truth === null ? null : make("b", {}, className(c.photos[k].truth)), make("small", {}, c.photos[k].name), answered(wide.map((m) => c.top[m][k][0]), c.models, className, c.photos[k].truth)));
  let matching = [], shown = 0;
  const next = () => {
    list.append(...matching.slice(shown, shown + PAGE).map(tile));
    shown = Math.min(matching.length, shown + PAGE);
    more.hidden = shown >= matching.length;
    more.textContent = `Show more (${counted(matching.length - shown)} left)`;
  };
  const filter = () => {
    const wanted = words(search.value), models = of.value === "" ? c.main : [Number(of.value)];
    const keeps = kinds[kind.value];
    matching = c.photos.map((_, k) => k).filter((k) => keeps(k, models) && wanted.every((word) => texts[k].includes(word))
      && (chosen.class === null || c.photos[k].truth === chosen.class || wide.some((m) => first(m, k) === chosen.class)));
    list.replaceChildren();
    shown = 0;
    next();
    found.replaceChildren(matching.length ? `${photoCount(matching.length)} of the ${counted(c.photos.length)} on this page` : "No photo on this page is like that",
      ...(chosen.class === null ? ["."] : [` that show or are called ${className(chosen.class)}. `, make("button", { type: "button", class: "link", onclick: () => only(null) }, "All classes")]));
    of.disabled = !["wrong", "right"].includes(kind.value);
  };
  const only = (k) => {
    chosen.class = k;
    filter();
    if (k !== null) document.getElementById("photos").scrollIntoView();
  };
  search.addEventListener("input", filter);
  kind.addEventListener("change", filter);
  of.addEventListener("change", filter);
  more.addEventListener("click", next);
  filter();
