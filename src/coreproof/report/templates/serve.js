  // what is wished for stands in the address, so that a view can be linked and the browser's buttons work
  const PAGE = 24;
  const form = document.getElementById("wish"), list = document.getElementById("list"), found = document.getElementById("found");
  const back = document.getElementById("back"), on = document.getElementById("on"), at = document.getElementById("at"), large = document.getElementById("large");
  let page = 0, asked = 0;
  const wish = () => {
    const given = new URLSearchParams([...new FormData(form)].filter(([, value]) => value !== ""));
    if (page) given.set("page", page);
    return given.toString();
  };
  const read = () => {
    const given = new URLSearchParams(location.search);
    for (const field of form.elements) if (field.name) field.value = given.get(field.name) ?? (field.tagName === "SELECT" ? field.options[0].value : "");
    for (const field of form.elements) if (field.tagName === "SELECT" && field.selectedIndex < 0) field.selectedIndex = 0;
    const number = Number(given.get("page"));
    page = Number.isInteger(number) && number > 0 ? number : 0;
  };
  const enlarge = (row) => {
    large.querySelector(".framed").replaceChildren(make("img", { src: `/large/${row.place}`, alt: row.name }));
    large.showModal();
  };
  const tile = (row, name) => make("li", {},
    row.skipped === null ? make("button", { type: "button", class: "enlarge", "aria-label": `Show ${row.name} at full size`, onclick: () => enlarge(row) }, make("img", { src: `/photo/${row.place}`, alt: "", loading: "lazy" })) : null,
    make("div", { class: "what" }, row.truth === null ? null : make("b", {}, name(row.truth)), make("small", {}, row.name),
      row.skipped === null ? answered(row.top.map((top) => top[0]), data.models, name, row.truth) : make("p", {}, row.skipped),
      row.skipped === null && row.apart !== null ? make("small", {}, `divergence ${figure(row.apart)}`) : null));
  const show = async (remember) => {
    const number = ++asked, query = wish();
    if (remember) history.pushState(null, "", query ? `/?${query}` : "/");
    const answer = await fetch(query ? `/rows?${query}` : "/rows");
    if (number !== asked) return;
    if (!answer.ok) {
      found.textContent = answer.status === 400 ? "There is no such page of photos." : "The store cannot be read: run the comparison again.";
      list.replaceChildren();
      return;
    }
    const { total, rows, classes } = await answer.json();
    if (number !== asked) return;
    const name = (index) => classes[index] ?? `class ${index}`, pages = Math.max(1, Math.ceil(total / PAGE));
    list.replaceChildren(...rows.map((row) => tile(row, name)));
    found.textContent = total === 0 ? "No photo is like that." : `${photoCount(total)}, ${counted(page * PAGE + 1)} to ${counted(page * PAGE + rows.length)} shown.`;
    at.textContent = `page ${counted(page + 1)} of ${counted(pages)}`;
    back.disabled = page === 0;
    on.disabled = page + 1 >= pages;
  };
  let waiting = 0;
  form.addEventListener("input", (event) => {
    page = 0;
    clearTimeout(waiting);
    waiting = setTimeout(() => show(true), event.target.type === "search" ? 200 : 0);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => {
    page += by;
    show(true);
    document.getElementById("photos").scrollIntoView();
  };
  back.addEventListener("click", () => turn(-1));
  on.addEventListener("click", () => turn(1));
  window.addEventListener("popstate", () => { read(); show(false); });
  read();
  show(false);
