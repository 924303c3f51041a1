// The maps of a network to one scale, from the image on: what a unit sees, what is never read, what is padding.
const drawing = (() => {
  "use strict";

  const SVG = "http://www.w3.org/2000/svg";
  const GAP = 34;
  const CAPTION = 84; // the least width of a map's column, for the words beneath it
  const LINE = 16;
  const LARGEST = 8;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function palette() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    return Object.fromEntries(["ink", "faint", "map", "grid", "seen", "padding", "unread", "paper"].map((name) => [name, colour(name)]));
  }

  const text = (words, attributes) => element("text", { "font-size": 12, "font-family": "system-ui, sans-serif", ...attributes }, words);
  const size = (pair) => (pair[0] === pair[1] ? String(pair[0]) : `${pair[0]} x ${pair[1]}`);

  // Grey values of one channel, or their mean, as a picture; rgb where there are three and they are an image.
  function picture({ channels, size: [height, width], values }, { channel, low, high, isImage = false }) {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    const area = width * height;
    const at = (one, index) => values[one * area + index];
    const level = (value) => Math.round((255 * (value - low)) / (high - low || 1));
    for (let index = 0; index < area; index++) {
      let colours;
      if (isImage && channels === 3) colours = [0, 1, 2].map((one) => level(at(one, index)));
      else if (channel === "mean") {
        let total = 0;
        for (let one = 0; one < channels; one++) total += at(one, index);
        colours = Array(3).fill(level(total / channels));
      } else colours = Array(3).fill(level(at(Math.min(channel, channels - 1), index)));
      pixels.data.set([...colours, 255], 4 * index);
    }
    context.putImageData(pixels, 0, 0);
    return canvas;
  }

  function bounds(map, channel) {
    const area = map.size[0] * map.size[1];
    let [low, high] = [Infinity, -Infinity];
    for (let index = 0; index < area; index++) {
      let value = 0;
      if (channel === "mean") {
        for (let one = 0; one < map.channels; one++) value += map.values[one * area + index];
        value /= map.channels;
      } else value = map.values[Math.min(channel, map.channels - 1) * area + index];
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    return [low, high];
  }

  // The maps that are drawn: the image, and what each layer that slides a window makes, after its norm and activation.
  function maps(layers, shown) {
    const windowed = layers.filter((layer) => !layer.whole && (layer.kind === "conv" || layer.kernel_size.some((one) => one > 1) || layer.stride.some((one) => one !== 1)));
    const image = { name: "image", layer: null, size: layers[0].input_size, source: "image", channels: layers[0].in_channels };
    const others = windowed.map((layer) => ({
      name: layer.name,
      layer,
      size: layer.output_size,
      channels: layer.out_channels,
      source: plans.blockEnd(layers, layer.name),
    }));
    if (others.length <= shown) return [image, ...others];
    // Of a deep network, where the size changes, from both sides.
    const isEdge = (at) => [at - 1, at + 1].some((next) => others[next]?.size.join() !== others[at].size.join());
    const edges = others.filter((_, at) => isEdge(at));
    return [image, ...(edges.length <= 2 * shown ? edges : edges.slice(0, 2 * shown))];
  }

  const before = (map) => (map.next ? Math.max(0, map.next.pad[1][0]) : 0);
  const after = (map) => (map.next ? Math.max(0, map.next.pad[1][1]) : 0);
  const heightOf = (maps) => Math.max(...maps.map((map) => map.size[0] + (map.next ? map.next.pad[0][0] + Math.max(0, map.next.pad[0][1]) : 0)));

  // The maps to draw, each with the layer that reads it in `next`.
  function chain(layers, many) {
    const shown = maps(layers, many ?? 9);
    shown.forEach((map, index) => (map.next = shown[index + 1]?.layer ?? null));
    return shown;
  }

  // Pixels of the page that a map's own pixel may have, so that all maps fit side by side into `room`.
  function scaleFor(layers, room, many) {
    const shown = chain(layers, many);
    const columns = shown.reduce((total, map) => total + before(map) + map.size[1] + after(map), 0);
    return Math.max(0.25, Math.min(LARGEST, (room - GAP * shown.length) / columns, 230 / heightOf(shown)));
  }

  // Where each map goes. Down the page all are centred on one line; a map's own pixel has one size everywhere.
  function layout(shown, scale) {
    const tallest = heightOf(shown);
    let x = 4;
    const axis = (tallest * scale) / 2 + 6;
    for (const map of shown) {
      x += before(map) * scale;
      Object.assign(map, { x, y: axis - (map.size[0] * scale) / 2, scale });
      const width = (map.size[1] + after(map)) * scale;
      x += Math.max(width, CAPTION) + GAP;
    }
    return { width: x - GAP + 8, floor: axis + (tallest * scale) / 2 + 6 };
  }

  const box = (map, [top, bottom], [left, right]) => ({
    x: map.x + left * map.scale,
    y: map.y + top * map.scale,
    width: Math.max(0, right - left) * map.scale,
    height: Math.max(0, bottom - top) * map.scale,
  });

  const bands = (indices) => {
    const made = [];
    for (const at of indices) {
      if (made.length && made.at(-1)[1] === at) made.at(-1)[1] = at + 1;
      else made.push([at, at + 1]);
    }
    return made;
  };

  // Padding in blue, and in red what the next layer (of the image: no unit of the last map) reads nothing of.
  function lost(map, last, colours) {
    const group = element("g", { "pointer-events": "none" });
    const [height, width] = map.size;
    const next = map.next;
    const [[top, bottom], [left, right]] = next ? next.pad.map(([a, b]) => [Math.max(0, a), Math.max(0, b)]) : [[0, 0], [0, 0]];
    if (top || bottom || left || right) {
      const shape = (x, y, w, h) => `M${x} ${y}h${w}v${h}h${-w}z`;
      const s = map.scale;
      const outer = shape(map.x - left * s, map.y - top * s, (width + left + right) * s, (height + top + bottom) * s);
      const inner = shape(map.x, map.y, width * s, height * s);
      group.append(element("path", { d: outer + inner, "fill-rule": "evenodd", fill: colours.padding, "fill-opacity": 0.75 }));
    }
    const directly = next ? next.axes.map(geometry.unreadInput) : [[], []];
    const never = map.name === "image" && last?.fields.every(Boolean) ? last.fields.map(geometry.unread) : [[], []];
    const [rows, columns] = [0, 1].map((side) => [...new Set([...directly[side], ...never[side]])].sort((a, b) => a - b));
    const red = { fill: colours.unread, "fill-opacity": 0.6 };
    for (const band of bands(rows)) group.append(element("rect", { ...box(map, band, [-left, width + right]), ...red }));
    for (const band of bands(columns)) group.append(element("rect", { ...box(map, [-top, height + bottom], band), ...red }));
    return { group, rows, columns };
  }

  function grid(map, colours) {
    if (map.scale < 4) return "";
    const [height, width] = map.size;
    const lines = [];
    for (let at = 0; at <= width; at++) lines.push(`M${map.x + at * map.scale} ${map.y}v${height * map.scale}`);
    for (let at = 0; at <= height; at++) lines.push(`M${map.x} ${map.y + at * map.scale}h${width * map.scale}`);
    return element("path", { d: lines.join(""), stroke: colours.grid, "stroke-opacity": 0.35, "stroke-width": 0.5, "pointer-events": "none" });
  }

  function labels(map, floor, colours, chosen) {
    const { layer } = map;
    const middle = Math.max(map.x + (map.size[1] * map.scale) / 2, CAPTION / 2);
    const words = layer
      ? [layer.name, `${size(map.size)} · ${map.channels} ch`, `stride ${size(layer.stride)}`, ...(layer.uneven.some(Boolean) ? ["uneven pad"] : [])]
      : ["image", `${size(map.size)} px`];
    const group = element("g", { "pointer-events": "none" });
    words.forEach((word, line) =>
      group.append(text(word, { x: middle, y: floor + LINE * (line + 1), "text-anchor": "middle", fill: line ? colours.faint : colours.ink, "font-weight": line || !chosen ? 400 : 700 }))
    );
    return group;
  }

  // Returns {svg, shown, mark}: mark(name, unit) paints what a unit of a map sees of all maps before it.
  function ladder(layers, values, { scale, channel, chosen, onUnit, onKey, title, many }) {
    const colours = palette();
    const shown = chain(layers, many);
    const { width, floor } = layout(shown, scale);
    const last = geometry.totals(layers).last_map;
    const height = floor + LINE * 5;
    const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": title, xmlns: SVG });
    svg.append(element("title", {}, title));
    const overlay = element("g", { "pointer-events": "none" });
    for (const map of shown) {
      const whole = box(map, [0, map.size[0]], [0, map.size[1]]);
      const here = element("g", {
        tabindex: map.layer ? 0 : null,
        role: "img",
        "data-map": map.name,
        "aria-label": map.layer
          ? `${map.name}: ${size(map.size)} units, ${map.channels} channels. Arrow keys move the unit that is looked at.`
          : `the image, ${size(map.size)} pixels`,
      });
      here.append(element("rect", { ...whole, fill: colours.map }));
      const value = values?.[map.source] ?? values?.[map.name];
      if (value) {
        const isImage = map.name === "image";
        const [low, high] = isImage ? [0, 1] : bounds(value, channel);
        const canvas = picture(isImage ? values.pixels : value, { channel: isImage && value.channels === 3 ? 0 : isImage ? 0 : channel, low, high, isImage });
        here.append(element("image", { ...whole, href: canvas.toDataURL(), preserveAspectRatio: "none", style: "image-rendering:pixelated" }));
      }
      const made = lost(map, last, colours);
      map.lost = made;
      here.append(grid(map, colours), made.group, labels(map, floor, colours, map.name === chosen));
      if (map.layer) {
        const unitAt = (event) => {
          const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
          return [point.y - map.y, point.x - map.x].map((at, side) => Math.min(Math.max(0, Math.floor(at / map.scale)), map.size[side] - 1));
        };
        here.addEventListener("pointermove", (event) => onUnit(map.name, unitAt(event), false));
        here.addEventListener("pointerdown", (event) => onUnit(map.name, unitAt(event), true));
        here.addEventListener("keydown", (event) => onKey(map.name, event));
        here.addEventListener("focus", () => onUnit(map.name, null, false));
      }
      svg.append(here);
    }
    svg.append(overlay);

    function mark(name, unit) {
      overlay.replaceChildren();
      const at = shown.findIndex((map) => map.name === name);
      if (at < 1 || !unit) return;
      const map = shown[at];
      let ranges = unit.map((one) => [one, one + 1]);
      const frame = { fill: colours.seen, "fill-opacity": 0.25, stroke: colours.seen, "stroke-width": 1.6 };
      overlay.append(element("rect", { ...box(map, ...ranges), ...frame, "fill-opacity": 0.6 }));
      const source = shown[at - 1];
      if (map.layer.inputs.length === 1 && isFrom(layers, map.layer, source)) {
        ranges = map.layer.axes.map((axis, side) => {
          const [first, end] = geometry.windowOf(axis, unit[side]);
          return [first, end + 1];
        });
        overlay.append(element("rect", { ...box(source, ...ranges), ...frame }));
        beam(source, ranges, map, unit);
      }
      if (at > 1 && map.layer.fields.every(Boolean)) {
        const field = map.layer.fields.map((one, side) => {
          const [first, end] = geometry.spanOf(one, unit[side]);
          return [first, end + 1];
        });
        const image = shown[0];
        const clipped = field.map(([first, end], side) => [Math.max(first, -0.35 * image.size[side]), Math.min(end, 1.35 * image.size[side])]);
        const dashed = clipped.some((pair, side) => pair.some((one, end) => one !== field[side][end]));
        overlay.append(element("rect", { ...box(image, ...clipped), ...frame, "stroke-dasharray": dashed ? "3 3" : null }));
      }
    }

    function beam(source, [rows, columns], map, unit) {
      const from = box(source, rows, columns);
      const to = box(map, [unit[0], unit[0] + 1], [unit[1], unit[1] + 1]);
      const lines = [[from.y, to.y], [from.y + from.height, to.y + to.height]];
      const d = lines.map(([start, end]) => `M${from.x + from.width} ${start}L${to.x} ${end}`).join("");
      overlay.append(element("path", { d, stroke: colours.seen, "stroke-opacity": 0.7, fill: "none" }));
    }

    return { svg, shown, mark };
  }

  // Whether a layer reads the map that is drawn before it, perhaps through its norm and activation.
  function isFrom(layers, layer, source) {
    return layer.inputs[0] === source.source || layer.inputs[0] === source.name;
  }

  // A part of the page as it stands, as a drawing: its canvases, and the words of the elements that are named.
  function copied(host, named) {
    const colours = palette();
    const frame = host.getBoundingClientRect();
    const place = (rect) => ({ x: rect.x - frame.x, y: rect.y - frame.y });
    const svg = element("svg", { xmlns: SVG, width: frame.width, height: frame.height, viewBox: `0 0 ${frame.width} ${frame.height}` });
    svg.append(element("rect", { width: frame.width, height: frame.height, fill: colours.paper }));
    for (const canvas of host.querySelectorAll("canvas")) {
      const rect = canvas.getBoundingClientRect();
      const size = { width: rect.width, height: rect.height };
      svg.append(element("image", { ...place(rect), ...size, href: canvas.toDataURL(), style: "image-rendering:pixelated" }));
    }
    for (const words of host.querySelectorAll(named)) {
      const range = document.createRange();
      range.selectNodeContents(words);
      const rect = range.getBoundingClientRect();
      const { x, y } = place(rect);
      const { fontSize, fontWeight, color } = getComputedStyle(words);
      svg.append(text(words.textContent, { x, y: y + 0.78 * rect.height, "font-size": fontSize, "font-weight": fontWeight, fill: color }));
    }
    return svg;
  }

  return { element, picture, bounds, maps, scaleFor, ladder, copied, palette, size };
})();
