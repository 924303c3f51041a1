// Feature maps as a person asks for them; a unit under the pointer shows its receptive field on the image.
(() => {
  const figure = document.querySelector("figure[data-maps]");
  if (!figure || typeof DecompressionStream === "undefined") return;
  const data = JSON.parse(figure.dataset.maps);
  const make = (tag, attributes = {}, text = "") => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    return element;
  };
  const unpacked = new Map();
  const unpack = async (packed) => {
    if (!unpacked.has(packed)) {
      const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      unpacked.set(packed, new Uint8Array(await new Response(stream).arrayBuffer()));
    }
    return unpacked.get(packed);
  };
  const palettes = data.palettes.map((colors) => colors.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16))));
  const shade = (palette, share) => {
    const at = Math.min(Math.max(share, 0), 1) * (palette.length - 1);
    const [low, part] = [Math.floor(at), at % 1];
    return palette[low].map((value, i) => value + part * ((palette[low + 1] || palette[low])[i] - value));
  };

  const viewer = make("div", { class: "maps" });
  const controls = make("div", { class: "controls" });
  const choose = (what, options, chosen) => {
    const select = make("select", { "aria-label": what });
    for (const [value, text] of options) {
      const option = make("option", { value }, text);
      option.selected = String(value) === String(chosen);
      select.append(option);
    }
    const label = make("label", {}, `${what} `);
    label.append(select);
    controls.append(label);
    select.addEventListener("change", show);
    return select;
  };
  const numbers = (count) => [...Array(count).keys()].map((k) => [k, String(k)]);
  const layer = choose("layer", data.layers.map((name) => [name, name]), data.layers.at(-1));
  const step = choose("epoch", data.steps.map((s) => [s, s === 0 ? "0, before training" : String(s)]), data.steps.at(-1));
  const image = choose("image", numbers(data.images.length), 0);
  const channel = choose("channel", [["all", `all ${data.channels}`], ...numbers(data.channels)], "all");
  const scale = choose("scale", [["one", "one for all"], ["variant", "each variant"], ["map", "each map"]], "one");
  const row = make("div", { class: "maprow" });
  const said = make("p", { class: "note", role: "status" });
  viewer.append(controls, row, said);
  figure.before(viewer);
  for (const one of document.querySelectorAll("img[data-figure^='feature_maps']")) one.closest("figure").classList.add("replaced");

  const column = (name, color, label) => {
    const box = make("div");
    const title = make("div", {}, name);
    title.style.color = color;
    const canvas = make("canvas", { tabindex: "0", role: "img", "aria-label": label });
    box.append(title, canvas);
    row.append(box);
    return canvas;
  };

  async function show() {
    const [at, wanted] = [Number(image.value), channel.value === "all" ? [...Array(data.channels).keys()] : [Number(channel.value)]];
    const key = `${step.value}/${layer.value}`;
    const bytes = await Promise.all(data.variants.map((one) => unpack(one.maps[key].data)));
    const pixels = await unpack(data.images[at]);
    const tops = data.variants.map((one) => wanted.map((k) => one.maps[key].tops[at * data.channels + k]));
    const robust = (values) => values.filter((top) => top > 0).sort((a, b) => a - b)[Math.floor(0.75 * values.filter((top) => top > 0).length)] || 1;
    row.replaceChildren();
    const [height, width, depth] = data.size;
    const input = column("image", "var(--ink)", "the image");
    [input.width, input.height] = [width, height];
    const frame = input.getContext("2d");
    const draw = (rectangle, color) => {
      const picture = frame.createImageData(width, height);
      for (let i = 0; i < width * height; i++)
        picture.data.set([0, 1, 2].map((c) => pixels[i * depth + (depth > 2 ? c : 0)]).concat(255), 4 * i);
      const big = Math.max(1, Math.round(160 / width));
      [input.width, input.height] = [width * big, height * big];
      const small = make("canvas", { width, height });
      small.getContext("2d").putImageData(picture, 0, 0);
      frame.imageSmoothingEnabled = false;
      frame.drawImage(small, 0, 0, width * big, height * big);
      if (!rectangle) return;
      const [[top, bottom], [left, right]] = rectangle;
      frame.strokeStyle = color;
      frame.lineWidth = 3;
      frame.strokeRect(left * big, top * big, (right - left) * big, (bottom - top) * big);
    };
    draw();
    data.variants.forEach((one, place) => {
      const { size: [h, w], signed } = one.maps[key];
      const across = Math.ceil(Math.sqrt(wanted.length));
      const down = Math.ceil(wanted.length / across);
      const canvas = column(one.name, one.color, `${one.name}, ${layer.value}: point at a unit, or use the arrow keys, for its field`);
      [canvas.width, canvas.height] = [across * (w + 1) - 1, down * (h + 1) - 1];
      const context = canvas.getContext("2d");
      const picture = context.createImageData(canvas.width, canvas.height);
      wanted.forEach((k, index) => {
        const own = tops[place][index];
        const limit = { one: robust(tops.flat()), variant: robust(tops[place]), map: own || 1 }[scale.value];
        for (let y = 0; y < h; y++) for (let x = 0; x < w; x++) {
          const value = ((bytes[place][((at * data.channels + k) * h + y) * w + x] - 128) / 127) * own / limit;
          const [r, g, b] = shade(palettes[signed ? 1 : 0], signed ? (value + 1) / 2 : value);
          const to = ((Math.floor(index / across) * (h + 1) + y) * canvas.width + (index % across) * (w + 1) + x) * 4;
          picture.data.set([r, g, b, 255], to);
        }
      });
      context.putImageData(picture, 0, 0);
      const field = one.fields[layer.value];
      let unit = [Math.floor((h - 1) / 2), Math.floor((w - 1) / 2)];
      const point = () => {
        if (!field) return;
        const box = field.map(([first, behind, by], axis) => [first, behind].map((edge) => edge + Math.floor(unit[axis] * by)));
        draw(box, one.color);
        said.textContent = `${one.name}, ${layer.value}, unit (${unit}): sees rows ${box[0][0]} to ${box[0][1] - 1}, `
          + `columns ${box[1][0]} to ${box[1][1] - 1} of the image`;
      };
      canvas.addEventListener("pointermove", (event) => {
        const around = canvas.getBoundingClientRect();
        const x = Math.floor(((event.clientX - around.left) / around.width) * canvas.width) % (w + 1);
        const y = Math.floor(((event.clientY - around.top) / around.height) * canvas.height) % (h + 1);
        unit = [Math.min(y, h - 1), Math.min(x, w - 1)];
        point();
      });
      canvas.addEventListener("focus", point);
      canvas.addEventListener("keydown", (event) => {
        const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (!move) return;
        event.preventDefault();
        unit = [Math.min(Math.max(unit[0] + move[0], 0), h - 1), Math.min(Math.max(unit[1] + move[1], 0), w - 1)];
        point();
      });
    });
    said.textContent = `Point at a unit: its receptive field is drawn on the image. ${data.note}`.trim();
  }
  show();
})();
