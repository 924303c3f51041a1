// The page's only script, allowed by its hash: it asks for nothing and writes text, never markup.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const make = (tag, attributes = {}, text = "", space = null) => {
    const element = space ? document.createElementNS(space, tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  const svg = (tag, attributes, text) => make(tag, attributes, text, SVG);
  const number = (text) => {
    const found = text.replace(/,/g, "").match(/^[-+\u2212]?[\d.]+/);
    if (!found) return NaN;
    const unit = { k: 1e3, M: 1e6, G: 1e9, T: 1e12 }[(text.match(/ ([kMGT])$/) || [])[1]] || 1;
    return parseFloat(found[0]) * unit;
  };

  // Every table sorts by a click on a heading, or Enter there.
  for (const table of document.querySelectorAll(".table table")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button" }, head.textContent);
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => row.cells[column].textContent;
        const order = (a, b) => {
          const [x, y] = [number(key(a)), number(key(b))];
          if (isNaN(x) || isNaN(y)) return isNaN(x) && isNaN(y) ? key(a).localeCompare(key(b)) : isNaN(x) - isNaN(y);
          return up ? x - y : y - x;
        };
        const rows = [...body.rows].sort(order);
        body.append(...rows);
      });
    });
  }

  const answer = document.querySelector(".answer[data-chart]");
  if (!answer) return;
  const data = JSON.parse(answer.dataset.chart);
  const table = answer.querySelector("table");
  const rowOf = new Map([...table.tBodies[0].rows].map((row) => [row.cells[0].textContent, row]));
  const known = data.variants.filter((one) => one.x > 0 && one.mean !== null);

  // Controls: filter by name, another baseline.
  const controls = make("div", { class: "controls" });
  const filter = make("input", { type: "search", placeholder: "filter variants", "aria-label": "filter variants" });
  const choose = make("select", { "aria-label": "baseline" });
  for (const name of Object.keys(data.against)) {
    const option = make("option", {}, name);
    option.selected = name === data.baseline;
    choose.append(option);
  }
  const label = make("label", {}, "baseline ");
  label.append(choose);
  const said = make("span", { role: "status", class: "note" });
  controls.append(filter, label, said);
  answer.prepend(controls);
  const chosen = new Set();

  const shown = (name) => name.toLowerCase().includes(filter.value.toLowerCase());
  const refresh = () => {
    let count = 0;
    for (const [name, row] of rowOf) {
      row.hidden = !shown(name);
      count += !row.hidden;
      row.classList.toggle("chosen", chosen.has(name));
    }
    for (const mark of answer.querySelectorAll("[data-variant]")) {
      const name = mark.dataset.variant;
      mark.classList.toggle("faint", !shown(name) || (chosen.size > 0 && !chosen.has(name)));
    }
    said.textContent = `${count} of ${rowOf.size} shown${chosen.size ? `, ${chosen.size} chosen` : ""}`;
  };
  filter.addEventListener("input", refresh);
  choose.addEventListener("change", () => {
    for (const [name, [difference, verdict]] of Object.entries(data.against[choose.value])) {
      const row = rowOf.get(name);
      if (row) [row.cells[2].textContent, row.cells[3].textContent] = [difference, verdict];
    }
    table.caption.textContent = table.caption.textContent.replace(/differences to .*/, `differences to ${choose.value}`);
  });

  // The chart: a mark a variant, its interval, a dot a seed; it stands in for the picture.
  if (known.length > 1) draw();
  refresh();

  function draw() {
    const [width, height, left, right, top, bottom] = [760, 350, 52, 12, 24, 40];
    const values = known.flatMap((one) => one.seeds.map((seed) => seed[1]).concat(one.mean));
    let [low, high] = [Math.min(...values), Math.max(...values)];
    const room = Math.max((high - low) * 0.15, 1e-9);
    [low, high] = [low - room, high + room];
    const logs = known.map((one) => Math.log2(one.x));
    let [near, far] = [Math.min(...logs), Math.max(...logs)];
    const side = Math.max((far - near) * 0.06, 0.3);
    [near, far] = [near - side, far + side];
    const x = (value) => left + ((Math.log2(value) - near) / (far - near)) * (width - left - right);
    const y = (value) => top + ((high - Math.min(Math.max(value, low), high)) / (high - low)) * (height - top - bottom);
    const chart = svg("svg", {
      viewBox: `0 0 ${width} ${height}`, role: "img", class: "chart", tabindex: "0",
      "aria-label": `${data.metric} against MACs, a mark a variant. Drag to choose variants; the table has the numbers.`,
    });
    const step = nice((high - low) / 5);
    for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) {
      chart.append(svg("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }));
      chart.append(svg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, String(+tick.toPrecision(4))));
    }
    for (const tick of decades(2 ** near, 2 ** far)) {
      chart.append(svg("line", { x1: x(tick), x2: x(tick), y1: top, y2: height - bottom, class: "grid" }));
      chart.append(svg("text", { x: x(tick), y: height - bottom + 16, "text-anchor": "middle" }, human(tick)));
    }
    chart.append(svg("text", { x: width - right, y: height - 6, "text-anchor": "end" }, "MACs an image, log scale"));
    chart.append(svg("text", { x: 4, y: 10 }, data.metric));
    const front = known.filter((one) => one.front).sort((a, b) => a.x - b.x);
    chart.append(svg("polyline", { class: "front", points: front.map((one) => `${x(one.x)},${y(one.mean)}`).join(" ") }));
    const placed = known.map((one, index) => x(one.x) + 11 * known.slice(0, index).filter((other) => Math.abs(x(other.x) - x(one.x)) < 9).length);
    const taken = known.flatMap((one, index) => [[placed[index] - 8, placed[index] + 6, y(one.high ?? one.mean) - 2, y(one.low ?? one.mean) + 2],
      [placed[index] - 6, placed[index] + 6, y(one.mean) - 6, y(one.mean) + 6]]);
    const marks = [];
    for (const [index, one] of known.entries()) {
      const group = svg("g", { "data-variant": one.name, style: `color:${one.color === "#000000" ? "var(--ink)" : one.color}` });
      const at = placed[index];
      if (one.low !== null) group.append(svg("line", { x1: at, x2: at, y1: y(one.low), y2: y(one.high) }));
      for (const [, value] of one.seeds) group.append(svg("circle", { cx: at - 5, cy: y(value), r: 2, class: "seed" }));
      const mark = svg("circle", { cx: at, cy: y(one.mean), r: 5.5 });
      const range = one.low === null ? "" : ` [${one.low.toPrecision(4)}, ${one.high.toPrecision(4)}]`;
      const seeds = one.seeds.map(([seed, value]) => `seed ${seed}: ${value}`).join("\n");
      mark.append(svg("title", {}, `${one.full}\n${data.metric}: ${one.mean.toPrecision(4)}${range}\n`
        + `MACs: ${human(one.x)}\nmaps: ${one.maps}\n${seeds}`));
      group.append(mark);
      marks.push({ group, one, at });
      group.addEventListener("mouseenter", () => rowOf.get(one.name)?.classList.add("hover"));
      group.addEventListener("mouseleave", () => rowOf.get(one.name)?.classList.remove("hover"));
      group.addEventListener("click", () => toggle(one.name));
      chart.append(group);
      const row = rowOf.get(one.name);
      row?.addEventListener("mouseenter", () => group.classList.add("hover"));
      row?.addEventListener("mouseleave", () => group.classList.remove("hover"));
      row?.addEventListener("click", () => toggle(one.name));
      const swatch = svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true", style: group.getAttribute("style") });
      swatch.append(svg("circle", { cx: 5, cy: 5, r: 5 }));
      row?.cells[0].prepend(swatch);
    }
    const letters = matchMedia("(max-width: 600px)").matches ? 20 / 11.5 : 1; // larger there, see page.css
    for (const mark of marks.sort((a, b) => b.one.front - a.one.front)) label(mark);
    // Beside the mark, or at an end of its interval, where nothing else is; the plans of the front come first.
    function label({ group, one, at }) {
      const long = 6.6 * letters * one.name.length;
      const [mean, upper, lower] = [one.mean, one.high ?? one.mean, one.low ?? one.mean].map(y);
      const free = ([start, base]) => start > left && start + long < width && base > top && base < height - bottom
        && !taken.some(([from, to, above, below]) => start < to && start + long > from && base - 11 * letters < below && base + 3 > above);
      const place = [[at + 9, mean + 4], [at - 9 - long, mean + 4], [at - long / 2, upper - 6], [at - long / 2, lower + 3 + 11 * letters]].find(free);
      if (!place) return;
      taken.push([place[0], place[0] + long, place[1] - 11 * letters, place[1] + 3]);
      group.append(svg("text", { x: place[0], y: place[1] }, one.name));
    }
    const box = svg("rect", { class: "brush", visibility: "hidden" });
    chart.append(box);
    let from = null;
    const place = (event) => {
      const frame = chart.getBoundingClientRect();
      return [((event.clientX - frame.left) * width) / frame.width, ((event.clientY - frame.top) * height) / frame.height];
    };
    chart.addEventListener("pointerdown", (event) => { from = place(event); });
    chart.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = place(event);
      const [w, h] = [Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])];
      if (w + h < 6) return;
      const corner = { x: Math.min(from[0], to[0]), y: Math.min(from[1], to[1]), width: w, height: h };
      for (const [name, value] of Object.entries(corner)) box.setAttribute(name, value);
      box.setAttribute("visibility", "visible");
      chosen.clear();
      for (const one of known) {
        const [a, b] = [x(one.x), y(one.mean)];
        if (a >= corner.x && a <= corner.x + w && b >= corner.y && b <= corner.y + h) chosen.add(one.name);
      }
      refresh();
    });
    window.addEventListener("pointerup", () => { from = null; box.setAttribute("visibility", "hidden"); });
    chart.addEventListener("keydown", (event) => { if (event.key === "Escape") { chosen.clear(); refresh(); } });
    answer.append(chart);
    document.querySelector("img[data-figure='accuracy_vs_macs']")?.closest("figure").classList.add("replaced");
  }

  function toggle(name) {
    chosen.has(name) ? chosen.delete(name) : chosen.add(name);
    refresh();
  }

  function decades(low, high) {
    const found = [];
    for (let power = 10 ** Math.floor(Math.log10(low)); power <= high; power *= 10)
      for (const digit of [1, 2, 5]) if (digit * power >= low && digit * power <= high) found.push(digit * power);
    return found.length > 1 ? found : [low, high];
  }

  function nice(rough) {
    const power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].find((one) => one * power >= rough) * power;
  }

  function human(value) {
    for (const [size, unit] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]])
      if (value >= size) return `${+(value / size).toPrecision(3)}${unit}`;
    return String(Math.round(value));
  }
})();
