// The page: its state, what each change of it shows, and the state's address.
(() => {
  "use strict";

  const data = JSON.parse(document.getElementById("data").textContent);
  const { Refusal, measure, totals } = geometry;
  const $ = (id) => document.getElementById(id);
  const isStill = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const hasImages = data.image !== null;

  function h(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return made;
  }

  const number = (value) => (value === null || value === undefined ? "?" : value.toLocaleString("en"));
  const kib = (bytes) => (bytes === null ? "?" : `${(bytes / 1024).toFixed(1)}`);
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const short = (value) => (value === null ? "?" : value >= 1e9 ? `${(value / 1e9).toFixed(2)} G` : value >= 1e6 ? `${(value / 1e6).toFixed(2)} M` : value >= 1e3 ? `${(value / 1e3).toFixed(1)} k` : String(value));

  // ---- state --------------------------------------------------------------------------------------------------------

  const SIDES = ["a", "b"];
  const second = data.networks.length > 1 ? 1 : 0;
  const initial = () => ({
    sides: [
      { network: 0, edits: {} },
      { network: second, edits: {} },
    ],
    compare: data.networks.length > 1,
    image: 0,
    layer: null,
    channel: "mean",
    scale: "network",
    epoch: "last",
    input: 0,
    unit: null,
    tour: null,
    code: false,
    step: 0,
  });
  let state = initial();
  let drawn = null; // the person's own picture: Float32 values from 0 to 1, one map
  const views = [{}, {}];

  // Of each network the epochs whose weights are here, the last one being called so: networks may have trained longer
  // than others. What can be chosen is what all have.
  const epochs = data.networks.map((one) => Object.keys(one.weights).map(Number));
  const isLast = (index, epoch) => epoch === Math.max(...epochs[index]);
  const held = epochs.filter((some) => some.length);
  const choosable = held.length ? [...held[0].filter((epoch) => held.every((some) => some.includes(epoch) && epoch < Math.max(...some))).map(String), "last"] : [];
  const hasWeights = (index) => epochs[index].length > 0;

  const decoded = new Map();
  function weightsOf(index) {
    const epoch = state.epoch === "last" ? Math.max(...epochs[index]) : state.epoch;
    const given = data.weights[data.networks[index].weights[epoch]];
    if (!decoded.has(given)) decoded.set(given, network.decoded(given));
    return decoded.get(given);
  }
  const measuredNetworks = data.networks.map((one) => measure(one.plan));
  const identities = measuredNetworks.map(plans.identity);

  // ---- the address --------------------------------------------------------------------------------------------------

  function address() {
    const words = new URLSearchParams();
    state.sides.forEach((side, index) => {
      const name = SIDES[index];
      if (side.network !== initial().sides[index].network) words.set(name, side.network);
      for (const [layer, edit] of Object.entries(side.edits)) for (const [key, word] of Object.entries(edit)) words.set(`${name}.${layer}.${key}`, word);
    });
    if (state.compare !== initial().compare) words.set("compare", Number(state.compare));
    if (state.image !== 0 && state.image !== "drawn") words.set("image", state.image);
    if (state.layer) words.set("layer", state.layer);
    if (state.channel !== "mean") words.set("channel", state.channel);
    if (state.scale !== "network") words.set("scale", state.scale);
    if (state.epoch !== "last") words.set("epoch", state.epoch);
    if (state.input) words.set("input", state.input);
    if (state.unit) words.set("unit", state.unit.join(","));
    if (state.tour !== null) words.set("tour", state.tour + 1);
    if (state.code) words.set("code", 1);
    return `#${words}`;
  }

  const whole = (word, least, most) => (/^\d+$/.test(word) && Number(word) >= least && Number(word) <= most ? Number(word) : null);

  // The state that an address means, and the parts of it that mean nothing here.
  function parsed(hash) {
    const made = initial();
    const unknown = [];
    for (const [key, word] of new URLSearchParams(hash.replace(/^#/, ""))) {
      if (!readWord(made, key, word)) unknown.push(`${key}=${word}`);
    }
    return [made, unknown];
  }

  function readWord(made, key, word) {
    const set = (name, value) => value !== null && ((made[name] = value), true);
    const side = SIDES.indexOf(key[0]);
    if (side >= 0 && key.length === 1) {
      const named = data.networks.findIndex((one) => one.name === word);
      const index = named >= 0 ? named : whole(word, 0, data.networks.length - 1);
      return index !== null && ((made.sides[side].network = index), true);
    }
    if (side >= 0 && key[1] === ".") {
      const [layer, setting] = [key.slice(2, key.lastIndexOf(".")), key.slice(key.lastIndexOf(".") + 1)];
      const { plan } = data.networks[made.sides[side].network];
      if (!plans.isChoice(setting, word) || !plans.editable(plan).some((one) => one.name === layer)) return false;
      (made.sides[side].edits[layer] ??= {})[setting] = word;
      return true;
    }
    const names = data.networks.flatMap((one) => one.plan.layers.map((layer) => layer.name));
    const readers = {
      compare: () => set("compare", { 0: false, 1: true }[word] ?? null),
      code: () => set("code", word === "1" || null),
      image: () => set("image", whole(word, 0, data.image.images.length - 1)),
      layer: () => set("layer", names.includes(word) ? word : null),
      channel: () => set("channel", whole(word, 0, 9999)),
      scale: () => set("scale", ["network", "one", "each"].includes(word) ? word : null),
      epoch: () => set("epoch", choosable.includes(word) ? word : null),
      input: () => set("input", whole(word, 0, 9999)),
      unit: () => set("unit", /^\d{1,5},\d{1,5}$/.test(word) ? word.split(",").map(Number) : null),
      tour: () => set("tour", whole(word, 1, TOUR.length) && Number(word) - 1),
    };
    return Object.hasOwn(readers, key) && (key !== "image" || hasImages) && readers[key]();
  }

  function change(patch, { quietly = false } = {}) {
    Object.assign(state, patch);
    remember();
    if (!quietly) render();
  }

  // In the sandboxed frame of an artifact view the address is not the page's to change.
  function remember() {
    try {
      history.replaceState(null, "", address());
    } catch {
      return;
    }
  }

  const say = (words) => ($("said").textContent = words);

  // ---- what is shown of one side ------------------------------------------------------------------------------------

  const inputOf = () => {
    if (!hasImages) return null;
    const { channels, size } = data.image;
    const values = state.image === "drawn" ? drawn : pixelsOf(state.image);
    return { pixels: network.map(channels, size, values), image: normalised(values) };
  };

  function normalised(pixels) {
    const { channels, size, mean, std } = data.image;
    const area = size[0] * size[1];
    const channel = (index) => Math.floor(index / area);
    return network.map(channels, size, pixels.map((value, index) => (value - mean[channel(index)]) / std[channel(index)]));
  }

  const pixelsOf = (index) => Float32Array.from(network.bytesOf(data.image.images[index].pixels), (value) => value / 255);

  // What a side computes: {layers, refusal, trained, maps, missing}.
  function compute(side, input) {
    const base = data.networks[side.network];
    let [plan, layers] = [base.plan, null];
    try {
      plan = plans.edited(base.plan, side.edits);
      layers = measure(plan);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      return { plan, refusal: error.message, layers: null };
    }
    const identity = plans.identity(layers);
    const same = identities.indexOf(identity);
    const trained = same >= 0 && hasWeights(same) ? same : null;
    const source = trained ?? side.network;
    const made = { plan, layers, trained, source, known: same, identity, refusal: null, maps: null, missing: null };
    if (input) made.shown = { ...input };
    if (!input || !hasWeights(source)) return withRecorded(made);
    try {
      made.maps = network.forward(layers, weightsOf(source), input.image);
      made.shown = { ...made.maps, ...input };
    } catch (error) {
      if (!(error instanceof network.Missing)) throw error;
      made.missing = error.message;
    }
    return made;
  }

  // A network too large for the page shows the maps that its run recorded, of the images that it recorded.
  function withRecorded(made) {
    const recorded = made.known >= 0 && data.networks[made.known].recorded;
    if (!recorded || state.image === "drawn" || !made.shown) return made;
    for (const [name, part] of Object.entries(recorded)) {
      const { shape, values } = recordedTensor(part);
      const [count, channels, height, width] = shape;
      if (state.image >= count) continue;
      const area = channels * height * width;
      made.shown[name] = network.map(channels, [height, width], values.subarray(state.image * area, (state.image + 1) * area));
    }
    return made;
  }

  function recordedTensor(part) {
    if (!decoded.has(part)) decoded.set(part, network.tensor(part));
    return decoded.get(part);
  }

  function verdict(made, side) {
    const base = data.networks[side.network];
    if (made.refusal) return h("p", { class: "refusal", role: "alert" }, `Not possible: ${made.refusal}.`);
    const one = made.known >= 0 ? data.networks[made.known] : null;
    if (state.epoch === "0") return h("p", { class: "score" }, h("strong", {}, "Before training."), " Its filters are those that all variants of this seed began with.");
    if (state.epoch !== "last") return h("p", { class: "score" }, h("strong", {}, `After epoch ${state.epoch}.`), ` The network on its way; choose "after training" for what it became.`);
    const recorded = one && !hasWeights(made.known) && one.recorded ? " Its weights are too large for this page: the maps are those that its run recorded, before the norm, of its first images." : "";
    if (one?.score) {
      const { label, text } = one.score;
      return h("p", { class: "score" }, h("strong", {}, text), ` ${label}; trained as ${one.name}.${recorded}`);
    }
    if (!data.networks.some((any, index) => hasWeights(index) || any.score)) return null;
    if (one) return h("p", { class: "score" }, `Trained as ${one.name}.${recorded}`);
    const words = base.command.length ? plans.command(plans.chosen(base.plan, side.edits), base) : null;
    const how = made.missing
      ? `Its maps cannot be shown: ${made.missing}.`
      : made.maps
        ? `What is shown runs the weights of ${base.name} at other settings than they were trained for; how accurate the network would be is not known.`
        : "";
    return h(
      "div",
      { class: "score" },
      h("p", {}, h("strong", {}, "Not trained. "), how),
      words ? copyable(words, "the command that trains it") : null
    );
  }

  function copyable(words, what) {
    const button = h("button", { type: "button", "aria-label": `copy ${what}` }, "Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(words);
        button.textContent = "Copied";
      } catch {
        const range = document.createRange();
        range.selectNodeContents(button.nextSibling);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        button.textContent = "Selected";
      }
      setTimeout(() => (button.textContent = "Copy"), 1500);
    });
    return h("div", { class: "copyable" }, button, h("pre", { tabindex: 0 }, words));
  }

  function figures(made) {
    const all = totals(made.layers);
    const last = all.last_map;
    const entries = [
      ["last map", last ? drawing.size(last.output_size) : "?", "units"],
      ["receptive field", last?.receptive_field ? drawing.size(last.receptive_field) : "?", "px"],
      ["effective stride", last?.effective_stride ? drawing.size(last.effective_stride) : "?", "px"],
      ["MACs", short(all.macs), "an image"],
      ["kept for backward", kib(all.activation_bytes), "KiB an image"],
      ["parameters", number(all.params), ""],
    ];
    return h("dl", { class: "figures" }, entries.map(([name, value, unit]) => h("div", {}, h("dt", {}, name), h("dd", {}, value, " ", h("small", {}, unit)))));
  }

  const KEYS = { stride: "stride", padding: "padding", padding_mode: "mode", kernel_size: "kernel", dilation: "dilation", downsample: "down-sampling" };

  /** A layer's name, which lines may end in after its dots. */
  const breakable = (name) => name.split(/(?<=\.)/).flatMap((part) => [part, h("wbr")]);

  function controls(index, made) {
    const side = state.sides[index];
    const base = data.networks[side.network].plan;
    const editable = plans.editable(base);
    const measured = new Map((made.layers ?? []).map((layer) => [layer.name, layer]));
    const head = ["layer", ...Object.values(KEYS), "map", "field", "eff. stride", "MACs", "KiB"].map((word) => word.replace("dila", "dila\u00ad"));
    const rows = editable.map((layer) => {
      const here = measured.get(layer.name);
      const cells = Object.keys(KEYS).map((key) => h("td", {}, choice(index, base, layer, key)));
      const facts = here
        ? [drawing.size(here.output_size), here.receptive_field ? drawing.size(here.receptive_field) : "?", here.effective_stride ? drawing.size(here.effective_stride) : "?", short(here.macs), kib(keptIn(made.layers, here))]
        : ["", "", "", "", ""];
      return h("tr", {}, h("th", { scope: "row" }, breakable(layer.name)), cells, facts.map((fact) => h("td", { class: "n" }, fact)));
    });
    return h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": `layers of ${SIDES[index].toUpperCase()}` },
      h("table", {}, h("thead", {}, h("tr", {}, head.map((word) => h("th", { scope: "col" }, word)))), h("tbody", {}, rows))
    );
  }

  // Of a layer with its norm and activation: what several of them keep is counted for the first.
  function keptIn(layers, layer) {
    const end = layers.findIndex((one) => one.name === plans.blockEnd(layers, layer.name));
    const bytes = layers.slice(layers.indexOf(layer), end + 1).map((one) => one.activation_bytes);
    return bytes.includes(null) ? null : bytes.reduce((a, b) => a + b, 0);
  }

  function choice(index, plan, layer, key) {
    const side = state.sides[index];
    if (["padding_mode", "downsample"].includes(key) && layer.kind !== "conv") return "";
    const given = String(plans.shown(layer, key));
    const now = String(side.edits[layer.name]?.[key] ?? given);
    const words = [...new Set([given, ...plans.CHOICES[key].map(String)])];
    const ordered = plans.CHOICES[key].map(String).includes(given) ? plans.CHOICES[key].map(String) : words;
    const select = h(
      "select",
      { "aria-label": `${layer.name} ${KEYS[key]}, ${SIDES[index].toUpperCase()}`, "data-edit": `${SIDES[index]}.${layer.name}.${key}`, class: now === given ? null : "changed" },
      ordered.map((word) => h("option", { value: word, selected: word === now }, word))
    );
    select.addEventListener("change", () => {
      const edits = structuredClone(side.edits);
      (edits[layer.name] ??= {})[key] = select.value;
      if (select.value === given) delete edits[layer.name][key];
      if (!Object.keys(edits[layer.name]).length) delete edits[layer.name];
      const sides = state.sides.map((one, at) => (at === index ? { ...one, edits } : one));
      change({ sides });
    });
    return select;
  }

  // What the network says of the image, by the kind of its last layer.
  function answer(made) {
    if (!made.maps) return null;
    const last = made.layers.at(-1);
    return { linear: probabilities, soft_argmax: placeFound, resample: classOfPixels }[last.kind]?.(made.maps[last.name]) ?? null;
  }

  const truePlace = () => (state.image === "drawn" ? null : data.image.places?.[state.image] ?? null);

  function placeFound(output) {
    const [row, column, presence] = output.values;
    const share = 1 / (1 + Math.exp(-presence));
    const truth = truePlace();
    const off = truth && Math.hypot(row - truth[0], column - truth[1]);
    const where = `at row ${row.toFixed(1)}, column ${column.toFixed(1)} (orange cross)`;
    const words = [h("p", {}, h("strong", {}, `${percent(share)} sure of an object, ${where}. `), off === null ? "" : `${off.toFixed(1)} px from its middle (white cross).`)];
    return h("div", { class: "answer" }, onImage([[truth, "#fff"], [share > 0.5 ? [row, column] : null, drawing.palette().seen]]), words);
  }

  // The image, four times as large, with crosses at places: [[row, column] or null, colour].
  function onImage(crosses) {
    const { pixels } = inputOf();
    const zoom = 4;
    const canvas = h("canvas", { width: pixels.size[1] * zoom, height: pixels.size[0] * zoom, role: "img", "aria-label": "the image and the places on it" });
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(drawing.picture(pixels, { channel: 0, low: 0, high: 1, isImage: true }), 0, 0, canvas.width, canvas.height);
    for (const [place, colour] of crosses.filter(([at]) => at)) {
      const [y, x] = place.map((at) => (at + 0.5) * zoom);
      for (const [style, width] of [["#000", 5], [colour, 2.5]]) {
        Object.assign(context, { strokeStyle: style, lineWidth: width });
        context.beginPath();
        for (const [dx, dy] of [[9, 0], [0, 9]]) {
          context.moveTo(x - dx, y - dy);
          context.lineTo(x + dx, y + dy);
        }
        context.stroke();
      }
    }
    return canvas;
  }

  function classOfPixels(output) {
    const { classes } = data.image;
    const area = output.size[0] * output.size[1];
    const winners = Uint8Array.from({ length: area }, (_, at) => {
      let best = 0;
      for (let channel = 1; channel < output.channels; channel++) if (output.values[channel * area + at] > output.values[best * area + at]) best = channel;
      return best;
    });
    const hue = (label) => classes?.[label] === "nothing" ? drawing.palette().map : `hsl(${(label * 137.5) % 360} 70% 55%)`;
    const canvas = h("canvas", { width: output.size[1], height: output.size[0], class: "pixels", role: "img", "aria-label": "the class of each pixel" });
    const context = canvas.getContext("2d");
    winners.forEach((label, at) => {
      context.fillStyle = hue(label);
      context.fillRect(at % output.size[1], Math.floor(at / output.size[1]), 1, 1);
    });
    const counts = [...new Set(winners)].map((label) => [label, winners.filter((one) => one === label).length]).sort((a, b) => b[1] - a[1]);
    const named = (label) => classes?.[label] ?? `class ${label}`;
    const legend = counts.slice(0, 6).map(([label, count]) => h("li", {}, h("i", { style: `background:${hue(label)}` }), `${named(label)} ${percent(count / area)}`));
    return h("div", { class: "answer" }, canvas, h("ul", { class: "classes" }, legend));
  }

  function probabilities(output) {
    if (!data.image?.classes) return null;
    const logits = output.values;
    const shares = network.softmax(logits);
    const truth = state.image === "drawn" ? null : data.image.images[state.image].label;
    const rows = shares.map((share, label) => ({ share, label, name: data.image.classes[label] ?? String(label) }));
    rows.sort((a, b) => b.share - a.share);
    return h(
      "ol",
      { class: "predictions", "aria-label": "probabilities of the classes" },
      rows.slice(0, 10).map(({ share, label, name }) =>
        h("li", { class: label === truth ? "truth" : null }, h("span", { class: "name" }, name), h("meter", { min: 0, max: 1, value: share.toFixed(4), "aria-label": name }), h("span", { class: "n" }, percent(share)))
      )
    );
  }

  // One scale for A and B, so that their maps can be compared; of what was possible last, where a change is refused.
  function showSides(input) {
    const shown = SIDES.map((_, index) => index).filter((index) => index === 0 || state.compare);
    const all = shown.map((index) => compute(state.sides[index], input));
    const rooms = shown.map((index) => Math.max(300, $(`side-${SIDES[index]}`).clientWidth - 40));
    const drawn = all.map((made, at) => (made.refusal ? views[shown[at]].made : made));
    const scale = Math.min(...drawn.map((made, at) => (made?.layers ? drawing.scaleFor(made.layers, rooms[at]) : Infinity)));
    shown.forEach((index, at) => sideView(index, all[at], scale));
  }

  function sideView(index, made, scale) {
    const side = state.sides[index];
    const view = views[index];
    const host = $(`side-${SIDES[index]}`);
    const focused = document.activeElement?.dataset?.edit;
    const title = h("div", { class: "title" }, h("h2", {}, SIDES[index].toUpperCase()), networkChoice(index), resetButton(index));
    const last = view.made;
    Object.assign(view, { made, ladder: null });
    const shownMade = made.refusal ? last : made;
    const parts = [title, verdict(made, side)];
    const picture = h("div", { class: `ladder scroll${made.refusal ? " stale" : ""}`, tabindex: 0, role: "region", "aria-label": `maps of ${SIDES[index].toUpperCase()}` });
    if (shownMade?.layers) {
      view.ladder = drawing.ladder(shownMade.layers, shownMade.shown, {
        scale,
        channel: state.channel,
        chosen: state.layer,
        title: `The maps of ${SIDES[index].toUpperCase()}, to one scale`,
        onUnit: (name, unit, isChosen) => pointed(index, name, unit, isChosen),
        onKey: (name, event) => moved(index, name, event),
      });
      picture.append(view.ladder.svg);
    }
    const save = saveButton(`stride-${SIDES[index]}`, () => views[index].ladder.svg);
    parts.push(picture, lostWords(made), made.layers && figures(made), controls(index, made), answer(made), h("div", { class: "buttons" }, save, codeView(made)));
    host.replaceChildren(...parts.filter(Boolean));
    if (focused) host.querySelector(`[data-edit="${CSS.escape(focused)}"]`)?.focus();
  }

  function lostWords(made) {
    if (!made.layers) return null;
    const last = totals(made.layers).last_map;
    if (!last?.fields.every(Boolean)) return null;
    const [rows, columns] = last.fields.map((field) => geometry.unread(field).length);
    const [height, width] = last.fields.map((field) => field.image);
    const pixels = height * width - (height - rows) * (width - columns);
    const pads = made.layers.filter((layer) => layer.unread_padding.some(Boolean)).map((layer) => layer.name);
    const words = [];
    if (pixels) words.push(`${number(pixels)} of ${number(height * width)} pixels are read by no unit of the last map (red).`);
    if (pads.length) words.push(`Padding that no window uses: ${pads.join(", ")}.`);
    return words.length ? h("p", { class: "lost" }, words.join(" ")) : null;
  }

  function networkChoice(index) {
    const side = state.sides[index];
    const select = h(
      "select",
      { "aria-label": `network ${SIDES[index].toUpperCase()}`, "data-edit": SIDES[index] },
      data.networks.map((one, at) => h("option", { value: at, selected: at === side.network }, one.name))
    );
    select.addEventListener("change", () => {
      const sides = state.sides.map((one, at) => (at === index ? { network: Number(select.value), edits: {} } : one));
      change({ sides });
    });
    return select;
  }

  function resetButton(index) {
    const side = state.sides[index];
    if (!Object.keys(side.edits).length) return null;
    const undo = () => change({ sides: state.sides.map((one, at) => (at === index ? { ...one, edits: {} } : one)) });
    return h("button", { type: "button", onclick: undo }, "Undo changes");
  }

  function codeView(made) {
    if (!made.layers) return null;
    if (plans.isTraced(data.networks[made.source].plan)) return null; // the module's own code says more than its geometry
    const [torch, keras] = [code.torch(made.layers), code.keras(made.layers, made.plan)];
    const none = "This network has a layer that the page cannot write down.";
    return h(
      "details",
      { open: state.code },
      h("summary", {}, "Code: PyTorch, Keras"),
      h("h3", {}, "PyTorch"),
      torch ? copyable(torch, "the PyTorch code") : h("p", {}, none),
      h("h3", {}, "Keras"),
      keras ? copyable(keras, "the Keras code") : h("p", {}, "Keras has no layer for this padding or rounding.")
    );
  }

  // ---- units --------------------------------------------------------------------------------------------------------

  function pointed(index, name, unit, isChosen) {
    const kept = unit ?? (state.layer === name && state.unit) ?? null;
    if (isChosen) return change({ layer: name, unit: kept, input: 0 });
    views.forEach((view, at) => view.ladder && at === index && view.ladder.mark(name, kept ?? middle(view, name)));
    describe(index, name, kept ?? middle(views[index], name));
  }

  const middle = (view, name) => view.made.layers?.find((layer) => layer.name === name)?.output_size.map((count) => Math.floor((count - 1) / 2)) ?? null;

  function moved(index, name, event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const view = views[index];
    const layer = view.made.layers.find((one) => one.name === name);
    const from = state.layer === name && state.unit ? state.unit : middle(view, name);
    const unit = from.map((at, side) => Math.min(Math.max(0, at + step[side]), layer.output_size[side] - 1));
    change({ layer: name, unit }, { quietly: true });
    mark();
    describe(index, name, unit);
    filterView();
  }

  function describe(index, name, unit) {
    const layer = views[index].made.layers?.find((one) => one.name === name);
    if (!layer || !unit) return;
    const windows = layer.axes.map((axis, side) => geometry.windowOf(axis, unit[side]));
    const words = [`${SIDES[index].toUpperCase()}, ${name}, unit ${unit.join(", ")}: rows ${windows[0].join(" to ")} and columns ${windows[1].join(" to ")} of the map before it`];
    if (layer.fields.every(Boolean)) {
      const field = layer.fields.map((one, side) => geometry.spanOf(one, unit[side]));
      words.push(`rows ${field[0].join(" to ")} and columns ${field[1].join(" to ")} of the image`);
    }
    $("unit").textContent = `${words.join("; ")}.`;
  }

  function mark() {
    views.forEach((view) => {
      const layer = view.made?.layers?.find((one) => one.name === state.layer);
      if (!view.ladder || !layer || !state.unit) return;
      view.ladder.mark(state.layer, state.unit.map((at, side) => Math.min(at, layer.output_size[side] - 1)));
    });
  }

  // ---- feature maps of one layer, A and B ---------------------------------------------------------------------------

  const mapNames = () => [...new Set(views.flatMap((view) => (view.made?.layers ? drawing.maps(view.made.layers, 99).slice(1) : [])).map((map) => map.name))];

  function mapsView() {
    const host = $("feature-maps");
    const sides = views.filter((view, index) => view.made?.maps && (index === 0 || state.compare));
    const names = mapNames();
    host.hidden = !sides.length || !names.length;
    if (host.hidden) return;
    const name = names.includes(state.layer) ? state.layer : names.at(-1);
    const values = sides.map((view) => ({ view, map: view.made.maps[plans.blockEnd(view.made.layers, name)] })).filter(({ map }) => map);
    const count = Math.max(0, ...values.map(({ map }) => map.channels));
    const pick = (label, options, now, on) => {
      const select = h("select", {}, options.map(([value, word]) => h("option", { value, selected: String(value) === String(now) }, word)));
      select.addEventListener("change", () => on(select.value));
      return h("label", {}, label, " ", select);
    };
    const named = { 0: "before training", last: "after training" };
    const bar = h(
      "div",
      { class: "buttons" },
      choosable.length > 1 ? pick("weights", choosable.map((one) => [one, named[one] ?? `after epoch ${one}`]), state.epoch, (epoch) => change({ epoch })) : null,
      pick("layer", names.map((one) => [one, one]), name, (layer) => change({ layer, unit: null })),
      pick("channel drawn above", [["mean", "mean of all"], ...Array.from({ length: count }, (_, at) => [at, at])], state.channel, (channel) => change({ channel: channel === "mean" ? channel : Number(channel) })),
      pick("grey", [["network", "one scale a network"], ["one", "one scale for both"], ["each", "each channel its own"]], state.scale, (scale) => change({ scale })),
      saveButton("feature-maps", () => drawing.copied(host, "h2, h3"))
    );
    const most = 32;
    const shared = scaleOf(values.map(({ map }) => map), most);
    const rows = values.map(({ view, map }) => {
      const [low, high] = state.scale === "one" ? shared : scaleOf([map], most);
      const tiles = Array.from({ length: Math.min(map.channels, most) }, (_, channel) => {
        const own = drawing.bounds(map, channel);
        const tile = drawing.picture(map, { channel, low: state.scale === "each" ? own[0] : low, high: state.scale === "each" ? own[1] : high });
        const show = () => change({ channel, layer: name });
        return h("button", { type: "button", class: channel === state.channel ? "tile chosen" : "tile", "aria-label": `channel ${channel}`, title: `channel ${channel}: ${own[0].toPrecision(3)} to ${own[1].toPrecision(3)}`, onclick: show }, tile);
      });
      const which = SIDES[views.indexOf(view)].toUpperCase();
      const more = map.channels > most ? `, the first ${most}` : "";
      const grey = state.scale === "each" ? "" : `, grey from ${low.toPrecision(3)} to ${high.toPrecision(3)}`;
      return h("div", {}, h("h3", {}, `${which}: ${drawing.size(map.size)}, ${map.channels} channels${more}${grey}`), h("div", { class: "tiles" }, tiles));
    });
    host.replaceChildren(
      h("h2", {}, "What each channel answers"),
      h("p", { class: "note" }, `After the norm and the activation. ${state.scale === "each" ? "Grey from each channel's least to its greatest value." : "What is brighter than the scale is white."}`),
      bar,
      ...rows
    );
  }

  // [low, high] of the grey: one channel far brighter than all others must not bleach them, so the top is the 98th
  // hundredth of the channels' tops.
  function scaleOf(maps, most) {
    const limits = maps.flatMap((map) => Array.from({ length: Math.min(map.channels, most) }, (_, channel) => drawing.bounds(map, channel)));
    const tops = limits.map(([, high]) => high).sort((a, b) => a - b);
    return [Math.min(...limits.map(([low]) => low)), tops[Math.floor(0.98 * (tops.length - 1))] ?? 1];
  }

  // ---- the filter at work -------------------------------------------------------------------------------------------

  let timer = null;

  function filterView() {
    const host = $("filter");
    const view = views[0];
    const layer = view.made?.layers?.find((one) => one.name === state.layer && one.kind === "conv") ?? view.made?.layers?.find((one) => one.kind === "conv");
    host.hidden = !layer || !view.made.maps;
    if (host.hidden) return;
    const channel = state.channel === "mean" ? 0 : Math.min(state.channel, layer.out_channels - 1);
    const inGroup = layer.in_channels / layer.groups;
    const group = Math.floor(channel / (layer.out_channels / layer.groups));
    const offset = Math.min(state.input, inGroup - 1);
    const [height, width] = layer.output_size;
    const unit = state.layer === layer.name && state.unit ? state.unit.map((at, side) => Math.min(at, layer.output_size[side] - 1)) : middle(view, layer.name);
    const at = unit[0] * width + unit[1];
    const source = view.made.maps[layer.inputs[0]];
    const filter = weightsOf(view.made.source)[layer.name];
    const sums = unitSum(layer, source, filter, channel, group, unit);
    const here = sums.parts[offset];
    const go = (next) => {
      const place = ((next % (height * width)) + height * width) % (height * width);
      change({ layer: layer.name, unit: [Math.floor(place / width), place % width] }, { quietly: true });
      mark();
      filterView();
    };
    const keep = host.querySelector("input[type=range]") === document.activeElement;
    const slider = h("input", { type: "range", min: 0, max: height * width - 1, value: at, "aria-label": `unit of ${layer.name}` });
    slider.addEventListener("input", () => go(Number(slider.value)));
    const play = h("button", { type: "button", "aria-pressed": Boolean(timer), onclick: () => toggle(go) }, timer ? "Pause" : "Play");
    const pick = h("select", { "aria-label": "input channel" }, Array.from({ length: inGroup }, (_, one) => h("option", { value: one, selected: one === offset }, one)));
    pick.addEventListener("change", () => (change({ input: Number(pick.value) }, { quietly: true }), filterView()));
    host.replaceChildren(
      h("h2", {}, "The filter slides"),
      h("p", { class: "note" }, `${layer.name} of A, output channel ${channel}. ${inGroup > 1 ? `Each of its ${inGroup} input channels is multiplied by its own` : "Its window is multiplied by"} ${layer.kernel_size.join("x")} weights; the sum of all is one unit. Choose layer and channel above, a unit by pointing.`),
      h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => go(at - 1), "aria-label": "one unit back" }, "◀"), play, h("button", { type: "button", onclick: () => go(at + 1), "aria-label": "one unit on" }, "▶"), slider, h("label", {}, "input channel ", pick), saveButton("filter", () => drawing.copied(host, "h2, td, caption, figcaption, .sign, .totals p"))),
      h(
        "div",
        { class: "sum" },
        matrix("window", here.window, 2),
        h("span", { class: "sign" }, "×"),
        matrix("weights", here.weights, 2),
        h("span", { class: "sign" }, "="),
        matrix("products", here.products, 2),
        h("div", { class: "totals" }, h("p", {}, `this input channel: ${here.total.toFixed(3)}`), inGroup > 1 ? h("p", {}, `the other ${inGroup - 1}: ${(sums.total - here.total).toFixed(3)}`) : null, filter.bias ? h("p", {}, `bias: ${sums.bias.toFixed(3)}`) : null, h("p", {}, h("strong", {}, `unit ${unit.join(", ")}: ${(sums.total + sums.bias).toFixed(3)}`))),
        filled(view.made.maps[layer.name], channel, at)
      )
    );
    if (keep) host.querySelector("input[type=range]").focus();
  }

  function toggle(go) {
    if (timer) {
      clearInterval(timer);
      timer = null;
    } else {
      timer = setInterval(() => {
        const layer = views[0].made?.layers?.find((one) => one.name === state.layer);
        if (!layer) return;
        const [row, column] = state.unit ?? [0, 0];
        go(row * layer.output_size[1] + column + 1);
      }, isStill ? 1200 : 220);
      if (!state.layer) change({ layer: views[0].made.layers.find((one) => one.kind === "conv").name, unit: [0, 0] }, { quietly: true });
    }
    filterView();
  }

  // The window, weights and products of each input channel for one unit; null where a window reads a zero of the padding.
  function unitSum(layer, source, filter, channel, group, unit) {
    const inGroup = layer.in_channels / layer.groups;
    const [kernelHeight, kernelWidth] = layer.kernel_size;
    const { repeats } = geometry.PADDING_MODES[layer.padding_mode];
    const place = (side, tap) => {
      const at = unit[side] * layer.stride[side] - layer.pad[side][0] + tap * layer.dilation[side];
      const size = source.size[side];
      return at >= 0 && at < size ? at : repeats(at, size);
    };
    const parts = Array.from({ length: inGroup }, (_, offset) => {
      const plane = (group * inGroup + offset) * source.size[0] * source.size[1];
      const cell = (y, x) => {
        const [row, column] = [place(0, y), place(1, x)];
        return row === null || column === null ? null : source.values[plane + row * source.size[1] + column];
      };
      const rows = (make) => Array.from({ length: kernelHeight }, (_, y) => Array.from({ length: kernelWidth }, (_, x) => make(y, x)));
      const weight = (y, x) => filter.weight.values[((channel * inGroup + offset) * kernelHeight + y) * kernelWidth + x];
      const products = rows((y, x) => (cell(y, x) ?? 0) * weight(y, x));
      return { window: rows(cell), weights: rows(weight), products, total: products.flat().reduce((a, b) => a + b, 0) };
    });
    return { parts, total: parts.reduce((all, part) => all + part.total, 0), bias: filter.bias ? filter.bias.values[channel] : 0 };
  }

  function matrix(caption, rows, digits) {
    const cells = rows.map((row) => h("tr", {}, row.map((value) => h("td", { class: value === null ? "n pad" : "n" }, (value ?? 0).toFixed(digits)))));
    return h("table", { class: "matrix" }, h("caption", {}, caption), h("tbody", {}, cells));
  }

  // The output map, filled in as far as the filter has come.
  function filled(map, channel, at) {
    const [low, high] = drawing.bounds(map, channel);
    const values = new Float32Array(map.size[0] * map.size[1]).fill(low);
    const area = values.length;
    values.set(map.values.subarray(channel * area, channel * area + at + 1));
    const canvas = drawing.picture(network.map(1, map.size, values), { channel: 0, low, high });
    return h("figure", { class: "filled" }, canvas, h("figcaption", {}, "the output so far"));
  }

  // ---- which test images A and B disagree on -------------------------------------------------------------------------

  const answers = new Map(); // what a network says of each image, by what it computes with
  let pending = null;

  const classifies = (made) => Boolean(made?.maps) && made.layers.at(-1).kind === "linear";

  const top = (made, maps) => {
    const { values } = maps[made.layers.at(-1).name];
    return values.indexOf(Math.max(...values));
  };

  const answersOf = ({ made }) => {
    if (!classifies(made)) return null;
    const key = `${state.epoch} ${made.source} ${made.identity}`;
    if (!answers.has(key)) answers.set(key, data.image.images.map(() => null));
    return answers.get(key);
  };

  // One image at a time, so that the page answers meanwhile.
  function answerNext() {
    pending = null;
    const open = state.compare ? views.flatMap((view) => (answersOf(view) ?? []).map((label, index) => [view, label, index])).find(([, label]) => label === null) : null;
    if (!open) return markDisagreements();
    const [view, , index] = open;
    answersOf(view)[index] = top(view.made, network.forward(view.made.layers, weightsOf(view.made.source), normalised(pixelsOf(index))));
    pending = setTimeout(answerNext);
  }

  function markDisagreements() {
    const [a, b] = views.map(answersOf);
    const tiles = [...document.querySelectorAll("#images .tile")];
    tiles.forEach((tile, index) => {
      const differs = state.compare && a && b && a[index] !== b[index];
      tile.classList.toggle("differs", Boolean(differs));
      if (differs) tile.title = `${tile.ariaLabel}; A says ${className(a[index])}, B says ${className(b[index])}`;
    });
    const count = tiles.filter((tile) => tile.classList.contains("differs")).length;
    $("differing").textContent = state.compare && a && b ? `A and B disagree on ${count} of these ${tiles.length} images${count ? " (underlined)" : ""}.` : "";
  }

  const className = (label) => data.image.classes?.[label] ?? String(label);

  // ---- images -------------------------------------------------------------------------------------------------------

  function imageView() {
    const host = $("images");
    host.hidden = !hasImages;
    if (!hasImages) return;
    const { channels, size, images, classes } = data.image;
    const tiles = images.map((one, index) => {
      const canvas = drawing.picture(network.map(channels, size, pixelsOf(index)), { channel: 0, low: 0, high: 1, isImage: true });
      const name = classes?.[one.label] ?? `image ${index}`;
      return h("button", { type: "button", class: index === state.image ? "tile chosen" : "tile", title: name, "aria-label": name, "aria-pressed": index === state.image, onclick: () => change({ image: index }) }, canvas);
    });
    const file = h("input", { type: "file", accept: "image/*", "aria-label": "a picture of your own" });
    file.addEventListener("change", () => file.files[0] && readFile(file.files[0]));
    const pad = $("pad") ?? drawingPad();
    host.replaceChildren(
      h("h2", {}, "Image"),
      h("div", { class: "own" }, h("div", { class: "tiles" }, tiles), pad, h("div", {}, h("p", { id: "differing", class: "note" }), h("p", { class: "note" }, "Draw in the square, or drop a picture anywhere on the page."), h("div", { class: "buttons" }, h("button", { type: "button", onclick: clearPad }, "Clear"), file)))
    );
  }

  function drawingPad() {
    const pad = h("canvas", { id: "pad", width: 140, height: 140, class: state.image === "drawn" ? "chosen" : null, role: "img", "aria-label": "draw here with mouse, pen or finger" });
    const context = pad.getContext("2d", { willReadFrequently: true });
    context.fillRect(0, 0, 140, 140);
    let last = null;
    const at = (event) => {
      const area = pad.getBoundingClientRect();
      return [((event.clientX - area.left) * 140) / area.width, ((event.clientY - area.top) * 140) / area.height];
    };
    pad.addEventListener("pointerdown", (event) => {
      pad.setPointerCapture(event.pointerId);
      last = at(event);
    });
    pad.addEventListener("pointermove", (event) => {
      if (!last) return;
      const next = at(event);
      Object.assign(context, { strokeStyle: "#fff", lineWidth: 11, lineCap: "round" });
      context.beginPath();
      context.moveTo(...last);
      context.lineTo(...next);
      context.stroke();
      last = next;
      take(pad);
    });
    for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => (last = null));
    return pad;
  }

  function clearPad() {
    const pad = $("pad");
    pad.getContext("2d").fillRect(0, 0, 140, 140);
    take(pad);
  }

  // What is on a canvas, at the size and with the channels of the networks' images.
  function take(source) {
    const { channels, size } = data.image;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [size[1], size[0]];
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(source, 0, 0, size[1], size[0]);
    const pixels = context.getImageData(0, 0, size[1], size[0]).data;
    const area = size[0] * size[1];
    drawn = new Float32Array(channels * area);
    for (let index = 0; index < area; index++) {
      const [red, green, blue] = pixels.subarray(4 * index, 4 * index + 3);
      const colours = channels === 1 ? [0.299 * red + 0.587 * green + 0.114 * blue] : [red, green, blue];
      colours.slice(0, channels).forEach((value, channel) => (drawn[channel * area + index] = value / 255));
    }
    soon(() => change({ image: "drawn" }));
  }

  let waiting = null;
  function soon(work) {
    waiting ??= requestAnimationFrame(() => {
      waiting = null;
      work();
    });
  }

  async function readFile(file) {
    if (!hasImages) return;
    try {
      const picture = await createImageBitmap(file);
      const side = Math.min(picture.width, picture.height);
      const pad = $("pad");
      const context = pad.getContext("2d");
      context.fillRect(0, 0, 140, 140);
      context.drawImage(picture, (picture.width - side) / 2, (picture.height - side) / 2, side, side, 0, 0, 140, 140);
      const { size } = data.image;
      say(`${file.name}: ${picture.width} x ${picture.height} pixels; the middle square is shown to the networks as ${size[1]} x ${size[0]}.`);
      take(pad);
    } catch {
      say(`${file.name} is not a picture that this browser can read; choose a PNG, JPEG, WebP or GIF file.`);
    }
  }

  function saveSvg(name, svg) {
    const words = new XMLSerializer().serializeToString(svg);
    const link = h("a", { download: `${name}.svg`, href: URL.createObjectURL(new Blob([words], { type: "image/svg+xml" })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  const saveButton = (name, drawn) => h("button", { type: "button", onclick: () => saveSvg(name, drawn()) }, "Save picture (SVG)");

  // ---- the tour -----------------------------------------------------------------------------------------------------

  function tourView() {
    const host = $("tour");
    host.hidden = state.tour === null;
    $("tour-button").setAttribute("aria-expanded", String(!host.hidden));
    if (host.hidden) return;
    const step = TOUR[state.tour];
    const to = (index) => startStep(index);
    host.replaceChildren(
      h("p", { class: "note" }, `Step ${state.tour + 1} of ${TOUR.length}`),
      h("h2", {}, step.title),
      h("p", {}, step.words),
      h("p", { class: "task" }, h("strong", {}, "Try: "), step.task),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", disabled: state.tour === 0, onclick: () => to(state.tour - 1) }, "Back"),
        h("button", { type: "button", disabled: state.tour === TOUR.length - 1, onclick: () => to(state.tour + 1) }, "Next"),
        h("button", { type: "button", onclick: () => change({ tour: null }) }, "End")
      )
    );
  }

  function startStep(index) {
    const step = TOUR[index];
    const { plan } = data.networks[0];
    const sides = step.sides
      ? step.sides(plan).map((edits) => ({ network: 0, edits: stringed(edits) }))
      : initial().sides;
    change({ tour: index, sides, compare: step.compare, unit: null });
    $("tour").scrollIntoView({ block: "nearest", behavior: isStill ? "auto" : "smooth" });
  }

  const stringed = (edits) => Object.fromEntries(Object.entries(edits).map(([layer, edit]) => [layer, Object.fromEntries(Object.entries(edit).map(([key, value]) => [key, String(value)]))]));

  // ---- all of it ----------------------------------------------------------------------------------------------------

  function render() {
    const input = inputOf();
    $("side-b").hidden = !state.compare;
    $("compare").setAttribute("aria-pressed", String(state.compare));
    imageView();
    tourView();
    showSides(input);
    if (!state.compare) Object.assign(views[1], { made: null, ladder: null });
    $("disagree").textContent = disagreement();
    mark();
    mapsView();
    filterView();
    if (hasImages && data.image.classes) {
      clearTimeout(pending);
      pending = setTimeout(answerNext, 50);
    }
  }

  function disagreement() {
    if (!state.compare || !data.image?.classes) return "";
    const tops = views.map(({ made }) => (classifies(made) ? top(made, made.maps) : null));
    if (tops.includes(null)) return "";
    return tops[0] === tops[1] ? `A and B agree: ${className(tops[0])}.` : `A and B disagree: ${className(tops[0])} against ${className(tops[1])}.`;
  }

  function start() {
    const [made, unknown] = parsed(location.hash);
    state = made;
    if (unknown.length) say(`The address asks for ${unknown.slice(0, 3).join(", ")}, which this page does not have; the rest is shown.`);
    $("title").textContent = data.title;
    $("subtitle").textContent = data.subtitle;
    $("compare").addEventListener("click", () => change({ compare: !state.compare }));
    $("tour-button").addEventListener("click", () => (state.tour === null ? startStep(0) : change({ tour: null })));
    $("link").addEventListener("click", async () => {
      remember();
      try {
        await navigator.clipboard.writeText(location.href);
        say("The address of what you see is copied.");
      } catch {
        say(`The address of what you see: ${location.href}`);
      }
    });
    addEventListener("hashchange", () => {
      if (location.hash === address()) return;
      const [next, odd] = parsed(location.hash);
      state = next;
      say(odd.length ? `The address asks for ${odd.slice(0, 3).join(", ")}, which this page does not have; the rest is shown.` : "");
      render();
    });
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      const file = event.dataTransfer.files[0];
      if (file) readFile(file);
    });
    let resizing = null;
    let wide = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth === wide) return;
      wide = innerWidth;
      clearTimeout(resizing);
      resizing = setTimeout(render, 150);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
    render();
  }

  try {
    start();
  } catch (error) {
    say(`The page could not be built: ${error.message}. Its networks cannot be shown here.`);
    throw error;
  }
})();
