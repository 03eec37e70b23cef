  // what every page needs: its data, elements, and numbers as people read them
  const data = JSON.parse(document.getElementById("data").textContent);
  const make = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "style") node.style.cssText = value;
      else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
      else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
  };
  const percent = (share, digits = 1) => {
    let text = (100 * share).toFixed(digits);
    if (share < 1 && Number(text) >= 100) text = (100 - 10 ** -digits).toFixed(digits);
    return text.replace(/\.0+$/, "") + "%";
  };
  const counted = (n) => n.toLocaleString("en-US");
  const photoCount = (n) => `${counted(n)} photo${n === 1 ? "" : "s"}`;
  const figure = (v) => {
    if (v === null || v === undefined) return "–";
    if (typeof v !== "number") return String(v);
    if (v === 0) return "0";
    const size = Math.abs(v);
    return size < 1e-3 || size >= 1e5 ? v.toExponential(1) : String(Number(v.toPrecision(3)));
  };
  // what models name first, those that name the same class on one line; answers: [class, share] of each model
  const answered = (answers, models, name, truth) => {
    const groups = new Map();
    answers.forEach(([index], m) => groups.set(index, [...(groups.get(index) ?? []), m]));
    return make("dl", { class: "answers" }, ...[...groups].map(([index, ms]) => {
      const shares = ms.map((m) => answers[m][1]), [low, high] = [percent(Math.min(...shares)), percent(Math.max(...shares))];
      const who = ms.length === models.length && ms.length > 2 ? `all ${ms.length} models` : ms.map((m) => models[m]).join(", ");
      return make("div", { class: truth === null ? null : truth === index ? "right" : "wrong" },
        make("dt", {}, name(index), make("small", {}, ` ${low === high ? low : `${low} to ${high}`}`)), make("dd", {}, who));
    }));
  };
