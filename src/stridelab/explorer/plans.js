// Plans as a person changes them: what can be changed of a layer, and what the changed plan is called and built with.
const plans = (() => {
  "use strict";

  const WINDOWED = ["conv", "max_pool", "avg_pool"];
  const CHOICES = {
    stride: [1, 2, 3, 4],
    padding: ["half", "same", "same_lower", "valid", 1, 2, 3],
    padding_mode: Object.keys(geometry.PADDING_MODES),
    kernel_size: [1, 2, 3, 4, 5, 7],
    dilation: [1, 2, 3, 4],
  };
  const PAIRS = ["stride", "padding", "kernel_size", "dilation"];

  const editable = (plan) => plan.layers.filter((layer) => WINDOWED.includes(layer.kind) && !layer.fixed);

  // What a person chooses: one value where both axes have the same, else e.g. "1x2".
  function shown(layer, key) {
    const plain = { stride: [1, 1], padding: [0, 0], kernel_size: [1, 1], dilation: [1, 1], padding_mode: "zeros" };
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

  // edits: {layer name: {key: word}}
  function edited(plan, edits) {
    const layers = plan.layers.map((layer) => {
      const words = Object.entries(edits[layer.name] ?? {});
      return words.length ? { ...layer, ...Object.fromEntries(words.map(([key, word]) => [key, parsed(key, word)])) } : layer;
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

  return { CHOICES, editable, shown, isChoice, edited, identity, blockEnd, command };
})();
