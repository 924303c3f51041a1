// The network on the page as code to take away, in PyTorch and in Keras.
const code = (() => {
  "use strict";

  const tuple = ([a, b]) => (a === b ? String(a) : `(${a}, ${b})`);
  const named = (name) => name.replace(/[^A-Za-z0-9_]/g, "_");
  const isFlat = (pad) => pad.flat().every((one) => one === 0);
  const isEven = ([[top, bottom], [left, right]]) => top === bottom && left === right;
  const ACTIVATIONS = { relu: "ReLU", relu6: "ReLU6", leaky_relu: "LeakyReLU", elu: "ELU", gelu: "GELU", silu: "SiLU", tanh: "Tanh", sigmoid: "Sigmoid" };
  const SHARED = {
    add: (inputs) => inputs.join(" + "),
    multiply: (inputs) => inputs.join(" * "),
  };

  // ---- PyTorch ------------------------------------------------------------------------------------------------------

  function torchWindow(layer) {
    const inside = isEven(layer.pad) && !(layer.kind !== "conv" && layer.padding_mode !== "zeros");
    const mode = layer.padding_mode === "zeros" || isFlat(layer.pad) ? "" : `, padding_mode="${layer.padding_mode}"`;
    const padding = inside && !isFlat(layer.pad) ? `, padding=${tuple([layer.pad[0][0], layer.pad[1][0]])}` : "";
    return { inside, mode, padding };
  }

  const TORCH = {
    conv: (layer) => {
      const { inside, mode, padding } = torchWindow(layer);
      const more = [
        layer.dilation.some((one) => one > 1) && `, dilation=${tuple(layer.dilation)}`,
        layer.groups > 1 && `, groups=${layer.groups}`,
        !layer.bias && ", bias=False",
      ];
      const channels = `${layer.in_channels}, ${layer.out_channels}`;
      const rest = more.filter(Boolean).join("");
      return `nn.Conv2d(${channels}, ${tuple(layer.kernel_size)}, stride=${tuple(layer.stride)}${padding}${inside ? mode : ""}${rest})`;
    },
    max_pool: (layer) => torchPool("MaxPool2d", layer),
    avg_pool: (layer) => torchPool("AvgPool2d", layer),
    norm: (layer) => (layer.function === "layer" ? null : `nn.BatchNorm2d(${layer.out_channels})`),
    activation: (layer) => `nn.${ACTIVATIONS[layer.function || "relu"]}()`,
    linear: (layer) => `nn.Linear(${layer.in_channels}, ${layer.out_channels}${layer.bias ? "" : ", bias=False"})`,
    dropout: () => "nn.Dropout()",
    adaptive_avg_pool: (layer) => `nn.AdaptiveAvgPool2d(${tuple(layer.output_size)})`,
  };

  function torchPool(name, layer) {
    const { padding } = torchWindow(layer);
    return `nn.${name}(${tuple(layer.kernel_size)}, stride=${tuple(layer.stride)}${padding}${layer.ceil_mode ? ", ceil_mode=True" : ""})`;
  }

  const FUNCTIONS = {
    ...SHARED,
    concat: (inputs) => `torch.cat([${inputs.join(", ")}], 1)`,
    flatten: ([x]) => `${x}.flatten(1)`,
    global_avg_pool: ([x]) => `${x}.mean((2, 3))`,
    global_max_pool: ([x]) => `${x}.amax((2, 3))`,
    identity: ([x]) => x,
  };

  function torchPad(layer, x) {
    const [[top, bottom], [left, right]] = layer.pad;
    const mode = layer.padding_mode === "zeros" ? "" : `, mode="${layer.padding_mode}"`;
    const fill = layer.kind === "max_pool" && !mode ? `, value=float("-inf")` : "";
    return `F.pad(${x}, (${left}, ${right}, ${top}, ${bottom})${mode}${fill})`;
  }

  // null: a layer that cannot be written down in a line.
  function torch(layers) {
    const [made, steps] = [[], []];
    const variable = { image: "x" };
    const readers = (name) => layers.filter((layer) => layer.inputs.includes(name)).length;
    layers.forEach((layer, index) => {
      const inputs = layer.inputs.map((name) => variable[name]);
      const alone = layer.inputs.length === 1 && readers(layer.inputs[0]) === 1;
      const out = index === 0 || alone ? inputs[0] ?? "x" : `x${index}`;
      variable[layer.name] = readers(layer.name) > 1 || !alone ? `x_${named(layer.name)}` : out;
      const to = variable[layer.name];
      if (layer.kind in FUNCTIONS) return steps.push(`${to} = ${FUNCTIONS[layer.kind](inputs)}`);
      const module = TORCH[layer.kind]?.(layer);
      if (!module) return made.push(null);
      made.push(`self.${named(layer.name)} = ${module}`);
      const explicit = ["conv", "max_pool", "avg_pool"].includes(layer.kind) && !torchWindow(layer).inside;
      const from = explicit ? torchPad(layer, inputs[0]) : inputs[0];
      steps.push(`${to} = self.${named(layer.name)}(${from})`);
    });
    if (made.includes(null)) return null;
    const lines = (all) => all.map((line) => `        ${line}`).join("\n");
    const padded = steps.some((step) => step.includes("F.pad")) ? "import torch.nn.functional as F\n" : "";
    const joined = steps.some((step) => step.includes("torch.cat")) ? "import torch\n" : "";
    return (
      `${joined}${padded}from torch import nn\n\n\nclass Network(nn.Module):\n    def __init__(self):\n        super().__init__()\n` +
      `${lines(made)}\n\n    def forward(self, x):\n${lines(steps)}\n        return ${variable[layers.at(-1).name]}\n`
    );
  }

  // ---- Keras --------------------------------------------------------------------------------------------------------

  const KERAS_MODES = { zeros: "constant", reflect: "reflect" };

  function kerasWindow(name, layer, first) {
    const padding = layer.kind === "conv" ? `, padding="valid"` : "";
    const more = [
      layer.dilation.some((one) => one > 1) && `, dilation_rate=${tuple(layer.dilation)}`,
      layer.groups > 1 && `, groups=${layer.groups}`,
      layer.kind === "conv" && !layer.bias && ", use_bias=False",
    ];
    return `layers.${name}(${first}${tuple(layer.kernel_size)}, strides=${tuple(layer.stride)}${padding}${more.filter(Boolean).join("")})`;
  }

  const KERAS = {
    conv: (layer) => kerasWindow("Conv2D", layer, `${layer.out_channels}, `),
    max_pool: (layer) => kerasWindow("MaxPooling2D", layer, ""),
    avg_pool: (layer) => kerasWindow("AveragePooling2D", layer, ""),
    norm: (layer) => (layer.function === "layer" ? "layers.LayerNormalization(epsilon=1e-6)" : "layers.BatchNormalization(epsilon=1e-5, momentum=0.9)"),
    activation: (layer) => `layers.Activation("${layer.function || "relu"}")`,
    linear: (layer) => `layers.Dense(${layer.out_channels})`,
    dropout: () => "layers.Dropout(0.5)",
    global_avg_pool: () => "layers.GlobalAveragePooling2D()",
    global_max_pool: () => "layers.GlobalMaxPooling2D()",
    flatten: () => "layers.Flatten()",
    add: () => "layers.Add()",
    multiply: () => "layers.Multiply()",
    concat: () => "layers.Concatenate()",
    identity: () => "layers.Identity()",
  };

  function keras(layers, plan) {
    const variable = { image: "x_image" };
    const lines = [];
    let padded = false;
    for (const layer of layers) {
      const module = KERAS[layer.kind]?.(layer);
      if (!module) return null;
      const windowed = ["conv", "max_pool", "avg_pool"].includes(layer.kind);
      if (layer.ceil_mode && windowed) return null;
      let from = layer.inputs.map((name) => variable[name]);
      from = from.length > 1 ? `[${from.join(", ")}]` : from[0];
      if (windowed && !isFlat(layer.pad)) {
        const mode = KERAS_MODES[layer.padding_mode];
        if (!mode) return null;
        const fill = layer.kind === "max_pool" && mode === "constant" ? `, constant_values=float("-inf")` : "";
        const [rows, columns] = layer.pad.map((pair) => `(${pair.join(", ")})`);
        from = `ops.pad(${from}, ((0, 0), ${rows}, ${columns}, (0, 0)), mode="${mode}"${fill})`;
        padded = true;
      }
      variable[layer.name] = `x_${named(layer.name)}`;
      lines.push(`${variable[layer.name]} = ${module}(${from})`);
    }
    const [height, width] = plan.input_size;
    return (
      `from keras import Model, ${padded ? "ops, " : ""}layers\n\nx_image = layers.Input((${height}, ${width}, ${plan.input_channels}))\n` +
      `${lines.join("\n")}\nnetwork = Model(x_image, ${variable[layers.at(-1).name]})\n`
    );
  }

  return { torch, keras };
})();
