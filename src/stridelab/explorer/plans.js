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

  const editable = (plan) => plan.layers.filter((layer) => WINDOWED.includes(layer.kind) && firstCall(plan, layer) === layer.name);

  // A module that runs again has its settings for all its calls: of `conv_2`, whose weights were counted before, `conv`.
  function firstCall(plan, layer) {
    const name = /^(.+)_\d+$/.exec(layer.name)?.[1];
    const alike = (one) => one.kind === layer.kind && (layer.kind === "conv" ? layer.params === 0 : PAIRS.every((key) => shown(one, key) === shown(layer, key)));
    return isTraced(plan) && plan.layers.some((one) => one.name === name && alike(one)) ? name : layer.name;
  }

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
      const words = Object.entries(edits[firstCall(plan, layer)] ?? {});
      return words.length ? { ...layer, ...Object.fromEntries(words.map(([key, word]) => [key, parsed(key, word)])) } : layer;
    });
    return { ...plan, layers };
  }

  function edited(plan, edits) {
    const made = isTraced(plan) && Object.keys(edits).length ? untold(chosen(plan, edits), plan) : chosen(plan, edits);
    const names = made.layers.filter((layer) => layer.downsample).map((layer) => layer.name);
    return aimed(names.reduce((now, name) => downSampled(now, now.layers.find((layer) => layer.name === name)), made));
  }

  // Read from a module that ran: its layers hold what that run cost, and not all that they compute.
  const isTraced = (plan) => plan.layers.some((layer) => Number.isInteger(layer.activation_bytes));

  // What the run told of a layer goes where the rule of its kind tells the same: the rule knows it of other maps too.
  // What is left holds of maps of the sizes `seen` alone.
  function untold(made, plan) {
    const TOLD = ["params", "macs", "activation_bytes", "batch_bytes"];
    const without = (layer, names) => Object.fromEntries(Object.entries(layer).filter(([name]) => !names.includes(name)));
    const told = geometry.measure(plan);
    const ruled = geometry.measure({ ...plan, layers: plan.layers.map((layer) => without(layer, TOLD)) });
    const layers = made.layers.map((layer, at) => {
      const { input_size, output_size, kernel_size } = told[at];
      return { ...without(layer, TOLD.filter((name) => told[at][name] === ruled[at][name])), seen: { input_size, output_size, kernel_size } };
    });
    return { ...made, layers };
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

  const valuesOf = (plan, key) => editable(plan).map((layer) => String(shown(layer, key)));

  // null where it cannot be spelled.
  function setting(name, key, values) {
    const isOne = new Set(values).size === 1;
    if (key === "padding") {
      if (!values.every((word) => /^([a-z_]+|\d+)$/.test(word))) return null;
      return isOne ? `model.${name}=${values[0]}` : `'model.${name}=[${values.join(",")}]'`;
    }
    if (key === "padding_mode" && !isOne) return null;
    return `model.${name}=${isOne && key !== "stride" ? values[0] : values.join("-")}`;
  }

  // The command that trains a changed plan, from that of the network it was made of. settings: {"strides": "stride"}.
  // null where what was changed has no key of its own.
  function command(plan, base) {
    const names = Object.fromEntries(Object.entries(base.settings).map(([name, key]) => [key, name]));
    const changed = new Map();
    for (const key of Object.keys(CHOICES)) {
      const values = valuesOf(plan, key);
      if (values.join() !== valuesOf(base.plan, key).join()) changed.set(names[key], names[key] ? setting(names[key], key, values) : null);
    }
    if ([...changed.values()].includes(null)) return null;
    const isChanged = (word) => [...changed.keys()].some((name) => word.replace(/^['"+]*/, "").startsWith(`model.${name}=`));
    return [...base.command.filter((word) => !isChanged(word)), ...changed.values()].join(" ");
  }

  return { CHOICES, editable, shown, isChoice, chosen, edited, isTraced, identity, blockEnd, command };
})();
