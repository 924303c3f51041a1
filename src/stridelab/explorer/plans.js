// Plans as a person changes them: what can be changed of a layer, and what the changed plan is called and built with.
const plans = (() => {
  "use strict";

  const WINDOWED = ["conv", "max_pool", "avg_pool"];
  const POOLS = ["max_pool", "avg_pool", "blur_pool"];
  const BLUR_SIZE = 3;
  const CHOICES = {
    stride: [1, 2, 3, 4],
    padding: ["half", "same", "same_lower", "valid", 1, 2, 3],
    padding_mode: Object.keys(geometry.PADDING_MODES),
    kernel_size: [1, 2, 3, 4, 5, 7],
    dilation: [1, 2, 3, 4],
    downsample: ["stride", ...POOLS, "space_to_depth"],
  };
  const PAIRS = ["stride", "padding", "kernel_size", "dilation"];

  const editable = (plan) => plan.layers.filter((layer) => WINDOWED.includes(layer.kind) && !layer.fixed);

  // What a person chooses: one value where both axes have the same, else e.g. "1x2".
  function shown(layer, key) {
    const plain = { stride: [1, 1], padding: [0, 0], kernel_size: [1, 1], dilation: [1, 1], padding_mode: "zeros", downsample: "stride" };
    const value = layer[key] ?? plain[key];
    if (!PAIRS.includes(key)) return value;
    const words = value.map((one) => (Array.isArray(one) ? one.join(",") : String(one)));
    return words[0] === words[1] ? words[0] : words.join("x");
  }

  function parsed(key, word) {
    if (!PAIRS.includes(key)) return word;
    const value = key === "padding" && word in geometry.PADDINGS ? word : Number(word);
    return [value, value];
  }

  const isChoice = (key, word) => key in CHOICES && CHOICES[key].map(String).includes(String(word));

  // edits: {layer name: {key: word}}. Each layer keeps what a person chose; `edited` makes layers of it.
  function chosen(plan, edits) {
    const layers = plan.layers.map((layer) => {
      const words = Object.entries(edits[layer.name] ?? {});
      return words.length ? { ...layer, ...Object.fromEntries(words.map(([key, word]) => [key, parsed(key, word)])) } : layer;
    });
    return { ...plan, layers };
  }

  function edited(plan, edits) {
    const made = chosen(plan, edits);
    return aimed(made.layers.filter((layer) => layer.downsample).reduce(downSampled, made));
  }

  // A head that tells places on the image reads them from the units of the last map, wherever those lie now.
  function aimed(plan) {
    const at = plan.layers.findIndex((layer) => ["soft_argmax", "resample"].includes(layer.kind));
    if (at < 0) return plan;
    const last = geometry.totals(geometry.measure({ ...plan, layers: plan.layers.slice(0, at - 1) })).last_map;
    if (!last.effective_stride?.every(Number.isInteger) || last.fields.some((field) => field.spans.length > 1)) {
      throw new geometry.Refusal(
        `the units of its last map, '${last.name}', lie on no grid of whole pixels, so that places on the image cannot be told from them`
      );
    }
    const units = { kernel_size: last.receptive_field, stride: last.effective_stride, padding: last.region.map(([first]) => -first) };
    return { ...plan, layers: plan.layers.map((layer, index) => (index === at ? { ...layer, ...units } : layer)) };
  }

  // The convolution at stride 1 and, behind its non-linearity or ahead of it, a layer that takes the steps instead.
  function downSampled(plan, conv) {
    const factor = conv.stride ?? [1, 1];
    if (conv.downsample === "stride" || factor.every((step) => step === 1)) return plan;
    const isAhead = conv.downsample === "space_to_depth";
    const number = /^conv(\d+)$/.exec(conv.name);
    const name = number ? `down${number[1]}` : `${conv.name}.down`;
    const end = isAhead ? conv.name : blockEnd(plan.layers, conv.name);
    const smaller = { name, kind: conv.downsample, stride: factor, kernel_size: factor, inputs: isAhead ? conv.inputs : [end] };
    if (conv.downsample === "blur_pool") {
      smaller.kernel_size = factor.map((step) => (step > 1 ? BLUR_SIZE : 1));
      smaller.padding = smaller.kernel_size.map((size) => [Math.floor((size - 1) / 2), Math.floor(size / 2)]);
      smaller.padding_mode = (conv.padding_mode ?? "zeros") === "zeros" ? "reflect" : conv.padding_mode;
    } else if (!isAhead) smaller.ceil_mode = true;
    const behind = isAhead ? conv.inputs : [end];
    const layers = plan.layers.flatMap((layer) => {
      let made = layer;
      if (layer.name === conv.name) made = { ...layer, stride: [1, 1], inputs: isAhead ? [name] : layer.inputs };
      else if (!isAhead && layer.inputs.includes(end)) made = { ...layer, inputs: layer.inputs.map((one) => (one === end ? name : one)) };
      if (isAhead && layer.name === conv.name) return [smaller, made];
      return !isAhead && layer.name === end ? [made, smaller] : [made];
    });
    return { ...plan, layers };
  }

  // Equal for plans that compute the same, however their padding is spelled.
  function identity(layers) {
    return JSON.stringify(
      layers.map((layer) => {
        const isPadded = layer.pad.flat().some(Boolean);
        const { name, kind, inputs, kernel_size, stride, dilation, pad, out_channels, groups } = layer;
        return [name, kind, inputs, kernel_size, stride, dilation, pad, isPadded ? layer.padding_mode : "", out_channels, groups, layer.function];
      })
    );
  }

  // The layers of a chain (conv, its norm, its activation, its pool) end where the next map begins.
  function blockEnd(layers, name) {
    let end = name;
    for (;;) {
      const readers = layers.filter((layer) => layer.inputs.includes(end));
      if (readers.length !== 1 || !["norm", "activation", "dropout", "identity"].includes(readers[0].kind)) return end;
      end = readers[0].name;
    }
  }

  const spelled = (words) => (new Set(words).size === 1 ? String(words[0]) : words.join("-"));

  const valuesOf = (plan, key) => editable(plan).filter((layer) => layer.kind === "conv").map((layer) => String(shown(layer, key)));

  function setting(name, key, values) {
    const isOne = new Set(values).size === 1;
    if (key === "padding" && !isOne) return `'model.${name}=[${values.join(",")}]'`;
    return `model.${name}=${key === "stride" ? values.join("-") : spelled(values)}`;
  }

  // The command that trains a changed plan, from that of the network it was made of. settings: {"strides": "stride"}.
  // null where a layer's setting has no key of its own.
  function command(plan, base) {
    const changed = [];
    for (const [name, key] of Object.entries(base.settings)) {
      const values = valuesOf(plan, key);
      if (values.join() === valuesOf(base.plan, key).join() && !base.swept.includes(name)) continue;
      if (key === "padding_mode" && new Set(values).size > 1) return null;
      changed.push([name, setting(name, key, values)]);
    }
    const isChanged = (word) => changed.some(([name]) => word.replace(/^['"+]*/, "").startsWith(`model.${name}=`));
    return [...base.command.filter((word) => !isChanged(word)), ...changed.map(([, word]) => word)].join(" ");
  }

  return { CHOICES, editable, shown, isChoice, chosen, edited, identity, blockEnd, command };
})();
