// The network on the page as code to take away, in PyTorch and in Keras.
const code = (() => {
  "use strict";

  const tuple = ([a, b]) => (a === b ? String(a) : `(${a}, ${b})`);
  const named = (name) => name.replace(/[^A-Za-z0-9_]/g, "_");
  const isFlat = (pad) => pad.flat().every((one) => one === 0);
  const isEven = ([[top, bottom], [left, right]]) => top === bottom && left === right;
  const options = (given) => given.filter(Boolean).map((word) => `, ${word}`).join("");
  const indented = (lines, width) => lines.map((line) => " ".repeat(width) + line).join("\n");
  const ACTIVATIONS = { relu: "ReLU", relu6: "ReLU6", leaky_relu: "LeakyReLU", elu: "ELU", gelu: "GELU", silu: "SiLU", tanh: "Tanh", sigmoid: "Sigmoid" };
  const VECTORS = ["flatten", "global_avg_pool", "global_max_pool"];

  // The binomial filter of a blur-pool as a nested list, and what its entries are divided by.
  function blurred(kernel_size) {
    const [rows, columns] = kernel_size.map((taps) => network.binomial(taps).map((share) => share * 2 ** (taps - 1)));
    const cells = rows.map((row) => `[${columns.map((column) => (row * column).toFixed(1)).join(", ")}]`);
    return [`[${cells.join(", ")}]`, 2 ** (kernel_size[0] + kernel_size[1] - 2)];
  }

  // Layers that read a vector, which has lost its rows and columns.
  function vectors(layers) {
    const found = new Set();
    for (const layer of layers) if (VECTORS.includes(layer.kind) || layer.inputs.some((name) => found.has(name))) found.add(layer.name);
    return found;
  }

  // ---- PyTorch: what a layer is made of, and what it is called with ---------------------------------------------------

  const padsItself = (layer) => isEven(layer.pad) && (layer.kind === "conv" || layer.padding_mode === "zeros");

  function torchPad(layer, x) {
    if (padsItself(layer) || isFlat(layer.pad)) return x;
    const [[top, bottom], [left, right]] = layer.pad;
    const mode = layer.padding_mode === "zeros" ? "" : `, mode="${layer.padding_mode}"`;
    const fill = layer.kind === "max_pool" && !mode ? `, value=float("-inf")` : "";
    return `F.pad(${x}, (${left}, ${right}, ${top}, ${bottom})${mode}${fill})`;
  }

  const torchPadding = (layer) => (padsItself(layer) && !isFlat(layer.pad) ? `padding=${tuple([layer.pad[0][0], layer.pad[1][0]])}` : "");

  function torchConv(layer, [x], me) {
    const more = options([
      `stride=${tuple(layer.stride)}`,
      torchPadding(layer),
      padsItself(layer) && !isFlat(layer.pad) && layer.padding_mode !== "zeros" && `padding_mode="${layer.padding_mode}"`,
      layer.dilation.some((one) => one > 1) && `dilation=${tuple(layer.dilation)}`,
      layer.groups > 1 && `groups=${layer.groups}`,
      !layer.bias && "bias=False",
    ]);
    return [`${me} = nn.Conv2d(${layer.in_channels}, ${layer.out_channels}, ${tuple(layer.kernel_size)}${more})`, `${me}(${torchPad(layer, x)})`];
  }

  const torchPool = (name) => (layer, [x], me) => {
    const more = options([`stride=${tuple(layer.stride)}`, torchPadding(layer), layer.ceil_mode && "ceil_mode=True"]);
    return [`${me} = nn.${name}(${tuple(layer.kernel_size)}${more})`, `${me}(${torchPad(layer, x)})`];
  };

  function torchBlur(layer, [x], me, name) {
    const [cells, all] = blurred(layer.kernel_size);
    const filter = `torch.tensor(${cells}).div(${all}).repeat(${layer.out_channels}, 1, 1, 1)`;
    const more = options([`stride=${tuple(layer.stride)}`, torchPadding(layer), `groups=${layer.out_channels}`]);
    return [`self.register_buffer("${name}_filter", ${filter}, persistent=False)`, `F.conv2d(${torchPad(layer, x)}, ${me}_filter${more})`];
  }

  function torchNorm(layer, [x], me, name, isVector) {
    if (layer.function !== "layer") return [`${me} = nn.BatchNorm2d(${layer.out_channels})`, `${me}(${x})`];
    const called = isVector ? `${me}(${x})` : `${me}(${x}.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)`;
    return [`${me} = nn.LayerNorm(${layer.out_channels}, eps=1e-6)`, called];
  }

  const torchModule = (write) => (layer, [x], me) => [`${me} = ${write(layer)}`, `${me}(${x})`];
  const torchFunction = (write) => (layer, inputs) => [null, write(inputs)];

  const TORCH = {
    activation: torchModule((layer) => `nn.${ACTIVATIONS[layer.function || "relu"]}()`),
    adaptive_avg_pool: torchModule((layer) => `nn.AdaptiveAvgPool2d(${tuple(layer.output_size)})`),
    add: torchFunction((inputs) => inputs.join(" + ")),
    avg_pool: torchPool("AvgPool2d"),
    blur_pool: torchBlur,
    concat: torchFunction((inputs) => `torch.cat([${inputs.join(", ")}], 1)`),
    conv: torchConv,
    dropout: torchModule(() => "nn.Dropout()"),
    flatten: torchFunction(([x]) => `${x}.flatten(1)`),
    global_avg_pool: torchFunction(([x]) => `${x}.mean((2, 3))`),
    global_max_pool: torchFunction(([x]) => `${x}.amax((2, 3))`),
    identity: torchFunction(([x]) => x),
    linear: torchModule((layer) => `nn.Linear(${layer.in_channels}, ${layer.out_channels}${layer.bias ? "" : ", bias=False"})`),
    max_pool: torchPool("MaxPool2d"),
    multiply: (layer, inputs, me) =>
      inputs.length > 1 ? [null, inputs.join(" * ")] : [`${me}_weight = nn.Parameter(torch.ones(${layer.out_channels}, 1, 1))`, `${inputs[0]} * ${me}_weight`],
    norm: torchNorm,
    space_to_depth: (layer, [x], me) => (layer.stride[0] === layer.stride[1] ? [`${me} = nn.PixelUnshuffle(${layer.stride[0]})`, `${me}(${x})`] : null),
  };

  // null: a layer that cannot be written down in a line.
  function torch(layers) {
    const [made, steps] = [[], []];
    const variable = { image: "x" };
    const flat = vectors(layers);
    const readers = (name) => layers.filter((layer) => layer.inputs.includes(name)).length;
    for (const layer of layers) {
      const inputs = layer.inputs.map((name) => variable[name]);
      const name = named(layer.name);
      const part = TORCH[layer.kind]?.(layer, inputs, `self.${name}`, name, layer.inputs.some((one) => flat.has(one)));
      if (!part) return null;
      // What is read once more later keeps a name of its own; all else goes on in its input's.
      const isAlone = layer.inputs.length === 1 && readers(layer.inputs[0]) === 1;
      variable[layer.name] = isAlone && readers(layer.name) <= 1 ? inputs[0] : `x_${name}`;
      if (part[0]) made.push(part[0]);
      steps.push(`${variable[layer.name]} = ${part[1]}`);
    }
    const body = [...made, ...steps].join("\n");
    const imports = [body.includes("torch.") && "import torch", body.includes("F.") && "import torch.nn.functional as F", "from torch import nn"];
    return (
      `${imports.filter(Boolean).join("\n")}\n\n\nclass Network(nn.Module):\n    def __init__(self):\n        super().__init__()\n` +
      `${indented(made, 8)}\n\n    def forward(self, x):\n${indented(steps, 8)}\n        return ${variable[layers.at(-1).name]}\n`
    );
  }

  // ---- Keras --------------------------------------------------------------------------------------------------------

  const KERAS_MODES = { zeros: "constant", reflect: "reflect" };

  // The input with its pads; null where Keras has no such padding.
  function kerasPad(layer, x) {
    if (isFlat(layer.pad)) return x;
    const mode = KERAS_MODES[layer.padding_mode];
    if (!mode) return null;
    const fill = layer.kind === "max_pool" && mode === "constant" ? `, constant_values=float("-inf")` : "";
    const [rows, columns] = layer.pad.map((pair) => `(${pair.join(", ")})`);
    return `ops.pad(${x}, ((0, 0), ${rows}, ${columns}, (0, 0)), mode="${mode}"${fill})`;
  }

  // With room for a window that hangs over the edge, which Keras's pools do not read.
  function overhung(layer) {
    if (!layer.ceil_mode) return layer;
    const pad = layer.axes.map((axis) => [axis.before, geometry.windowOf(axis, axis.count - 1)[1] + 1 - axis.size]);
    return { ...layer, pad };
  }

  const kerasWindow = (write) => (layer, inputs) => {
    const from = kerasPad(layer, inputs[0]);
    return from && `${write(layer)}(${from})`;
  };

  // Keras refuses steps together with a dilation; then every place is computed, and the steps are taken afterwards.
  function kerasConv(layer, inputs) {
    const isSplit = [layer.stride, layer.dilation].every((pair) => pair.some((one) => one > 1));
    if (!isSplit) return kerasPlainConv(layer, inputs);
    const every = kerasPlainConv({ ...layer, stride: [1, 1] }, inputs);
    return every && `${every}[:, ::${layer.stride[0]}, ::${layer.stride[1]}, :]`;
  }

  const kerasPlainConv = kerasWindow((layer) => {
    const more = options([
      layer.stride.some((one) => one > 1) && `strides=${tuple(layer.stride)}`,
      layer.dilation.some((one) => one > 1) && `dilation_rate=${tuple(layer.dilation)}`,
      layer.groups > 1 && `groups=${layer.groups}`,
      !layer.bias && "use_bias=False",
    ]);
    return `layers.Conv2D(${layer.out_channels}, ${tuple(layer.kernel_size)}${more})`;
  });

  const kerasPool = (name) => kerasWindow((layer) => `layers.${name}(${tuple(layer.kernel_size)}, strides=${tuple(layer.stride)})`);

  function kerasBlur(layer, inputs) {
    const from = kerasPad(layer, inputs[0]);
    if (!from || layer.stride[0] !== layer.stride[1]) return null;
    const [cells, all] = blurred(layer.kernel_size);
    const filter = `ops.tile(ops.reshape(ops.array(${cells}) / ${all}, (${layer.kernel_size.join(", ")}, 1, 1)), (1, 1, ${layer.out_channels}, 1))`;
    return `ops.depthwise_conv(${from}, ${filter}, strides=${layer.stride[0]})`;
  }

  // Channel by channel the pixels of each block, as PyTorch's PixelUnshuffle.
  function kerasBlocks(layer, [x]) {
    const [[down, right], [height, width]] = [layer.stride, layer.output_size];
    const blocks = `ops.reshape(${x}, (-1, ${height}, ${down}, ${width}, ${right}, ${layer.in_channels}))`;
    return `ops.reshape(ops.transpose(${blocks}, (0, 1, 3, 5, 2, 4)), (-1, ${height}, ${width}, ${layer.out_channels}))`;
  }

  const kerasLayer = (write) => (layer, inputs) => `${write(layer)}(${inputs.length > 1 ? `[${inputs.join(", ")}]` : inputs[0]})`;

  const KERAS = {
    activation: kerasLayer((layer) => (layer.function === "leaky_relu" ? "layers.LeakyReLU(0.01)" : `layers.Activation("${layer.function || "relu"}")`)),
    add: kerasLayer(() => "layers.Add()"),
    avg_pool: (layer, inputs) => (isFlat(overhung(layer).pad) ? kerasPool("AveragePooling2D")(layer, inputs) : null), // its mean would count the padding
    blur_pool: kerasBlur,
    concat: kerasLayer(() => "layers.Concatenate()"),
    conv: kerasConv,
    dropout: kerasLayer(() => "layers.Dropout(0.5)"),
    flatten: (layer, [x]) => `layers.Flatten()(ops.transpose(${x}, (0, 3, 1, 2)))`, // in PyTorch's order: channel by channel
    global_avg_pool: kerasLayer(() => "layers.GlobalAveragePooling2D()"),
    global_max_pool: kerasLayer(() => "layers.GlobalMaxPooling2D()"),
    identity: kerasLayer(() => "layers.Identity()"),
    linear: kerasLayer((layer) => `layers.Dense(${layer.out_channels}${layer.bias ? "" : ", use_bias=False"})`),
    max_pool: (layer, inputs) => kerasPool("MaxPooling2D")(overhung(layer), inputs),
    multiply: (layer, inputs) => (inputs.length > 1 ? kerasLayer(() => "layers.Multiply()")(layer, inputs) : null),
    norm: kerasLayer((layer) => (layer.function === "layer" ? "layers.LayerNormalization(epsilon=1e-6)" : "layers.BatchNormalization(epsilon=1e-5, momentum=0.9)")),
    space_to_depth: kerasBlocks,
  };

  // null: a layer, a padding or a rounding that Keras does not have.
  function keras(layers, plan) {
    const variable = { image: "x_image" };
    const lines = [];
    for (const layer of layers) {
      const written = KERAS[layer.kind]?.(layer, layer.inputs.map((name) => variable[name]));
      if (!written) return null;
      variable[layer.name] = `x_${named(layer.name)}`;
      lines.push(`${variable[layer.name]} = ${written}`);
    }
    const [height, width] = plan.input_size;
    return (
      `from keras import Model, layers${lines.join().includes("ops.") ? ", ops" : ""}\n\nx_image = layers.Input((${height}, ${width}, ${plan.input_channels}))\n` +
      `${lines.join("\n")}\nnetwork = Model(x_image, ${variable[layers.at(-1).name]})\n`
    );
  }

  return { torch, keras };
})();
