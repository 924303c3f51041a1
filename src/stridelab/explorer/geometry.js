// The arithmetic of stridelab.geometry in the browser: a plan in, one measured layer for each of its layers out.
// Layers and measured layers have the names of the Python classes Layer and LayerGeometry.
const geometry = (() => {
  "use strict";

  class Refusal extends Error {}

  const PADDINGS = {
    half: (size, span) => [Math.floor((span - 1) / 2), Math.floor((span - 1) / 2)],
    same: (size, span, stride) => {
      const total = Math.max(0, (Math.ceil(size / stride) - 1) * stride + span - size);
      return [Math.floor(total / 2), total - Math.floor(total / 2)];
    },
    same_lower: (size, span, stride) => PADDINGS.same(size, span, stride).reverse(),
    torch_same: (size, span, stride) => {
      if (stride !== 1) {
        throw new Refusal(
          `padding 'torch_same' means nothing at stride ${stride}: PyTorch's constant pads keep the size ` +
            "at stride 1 only, so PyTorch refuses any other; choose same (TensorFlow's rule, " +
            "output = ceil(input / stride)) or half"
        );
      }
      return [Math.floor((span - 1) / 2), span - 1 - Math.floor((span - 1) / 2)];
    },
    valid: () => [0, 0],
  };

  // repeats: (column outside the map, its size) -> the real column that is repeated there; null: a zero.
  const PADDING_MODES = {
    zeros: { repeats: () => null, margin: null, keepsInput: false },
    reflect: { repeats: (at, size) => size - 1 - Math.abs(size - 1 - Math.abs(at)), margin: 1, keepsInput: true },
    replicate: { repeats: (at, size) => Math.min(Math.max(at, 0), size - 1), margin: null, keepsInput: true },
    circular: { repeats: (at, size) => ((at % size) + size) % size, margin: 0, keepsInput: false },
  };

  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const range = (count) => Array.from({ length: count }, (_, index) => index);
  const both = (make) => [make(0), make(1)];
  const gcd = (a, b) => (b ? gcd(b, a % b) : a);
  const lcm = (a, b) => (a / gcd(a, b)) * b;

  // ---- one axis of one layer -------------------------------------------------------------------------------------

  function pads(padding, size, span, stride) {
    if (typeof padding === "string") return PADDINGS[padding](size, span, stride);
    return typeof padding === "number" ? [padding, padding] : padding;
  }

  function windowAxis(size, { kernel, stride = 1, dilation = 1, padding = 0, ceil = false }) {
    const span = dilation * (kernel - 1) + 1;
    const [before, after] = pads(padding, size, span, stride);
    const padded = before + size + after;
    let count = Math.floor((padded - span + (ceil ? stride - 1 : 0)) / stride) + 1;
    if (ceil && (count - 1) * stride >= size + before) count -= 1;
    if (count < 1) {
      throw new Refusal(
        `a window of ${span} (kernel_size ${kernel}, dilation ${dilation}) does not fit into ` +
          `${before} + ${size} + ${after} columns (padding, input, padding); nothing is left`
      );
    }
    const end = (count - 1) * stride + span;
    const trailing = Math.max(0, padded - end);
    const unread = Math.min(Math.max(0, trailing - after), size);
    const read = new Set();
    for (const unit of range(count)) for (const tap of range(kernel)) read.add(unit * stride + tap * dilation);
    let [skipped, holes] = [0, 0];
    for (let column = before; column < Math.min(end, before + size); column++) {
      if (read.has(column)) continue;
      if (column % stride >= span) skipped += 1;
      else holes += 1;
    }
    return axis(size, count, {
      kernel,
      stride,
      dilation,
      before,
      after,
      unread_padding: trailing - unread,
      unread_pixels: unread,
      skipped_pixels: skipped,
      hole_pixels: holes,
      uneven: before > 0 !== end > before + size,
    });
  }

  // taps: the columns that each unit of a period reads; the next period's lie `stride` columns further.
  function axis(size, count, fields) {
    const plain = { kernel: 1, stride: 1, dilation: 1, before: 0, after: 0, unread_padding: 0, unread_pixels: 0 };
    const made = { ...plain, skipped_pixels: 0, hole_pixels: 0, uneven: false, regular: true, ...fields };
    made.size = size;
    made.count = count;
    made.taps ??= [range(made.kernel).map((tap) => tap * made.dilation - made.before)];
    made.step = made.stride / made.taps.length;
    return made;
  }

  function poolAxis(size, options) {
    const made = windowAxis(size, options);
    if (Math.max(made.before, made.after) > Math.floor(options.kernel / 2)) {
      throw new Refusal(
        `padding ${made.before} + ${made.after} is too much for a window of ${options.kernel}; ` +
          "each side of a pooling may have half the kernel at most"
      );
    }
    return made;
  }

  const irregularAxis = (size, count, kernel = 1) => axis(size, count, { kernel, regular: false });

  function sliceAxis(size, start, step, count) {
    const end = start + (count - 1) * step + 1;
    return axis(size, count, {
      stride: step,
      before: -start,
      unread_pixels: start + size - end,
      skipped_pixels: (count - 1) * (step - 1),
    });
  }

  function transposedAxis(size, count, kernel, stride, dilation, padding) {
    const taps = range(stride).map((unit) =>
      range(kernel)
        .map((tap) => unit + padding - tap * dilation)
        .filter((place) => place % stride === 0)
        .map((place) => place / stride)
        .sort((a, b) => a - b)
    );
    if (taps.some((one) => !one.length)) {
      throw new Refusal(`kernel_size ${kernel} leaves gaps between steps of ${stride}, where no pixel is read`);
    }
    return axis(size, count, { kernel, dilation, taps });
  }

  function interpolatedAxis(size, count, mode) {
    let [up, down] = mode === "aligned" ? [size - 1, count - 1] : [size, count];
    if (mode === "aligned" && count <= 1) [up, down] = [1, 1];
    if (!up) return irregularAxis(size, count);
    const common = gcd(up, down);
    [up, down] = [up / common, down / common];
    // where unit j lies, in units of 1 / (2 * down) column
    const taps = range(down).map((unit) => {
      const place = 2 * unit * up + ({ bilinear: up - down, "nearest-exact": up }[mode] ?? 0);
      const low = Math.floor(place / (2 * down));
      const high = Math.ceil(place / (2 * down));
      return mode.startsWith("nearest") || low === high ? [low] : [low, high];
    });
    return axis(size, count, { kernel: Math.max(...taps.map((one) => one.length)), stride: up, taps });
  }

  // ---- what the units of a map see of the image, along one axis -----------------------------------------------------

  const imageField = (size) => ({
    image: size,
    spans: [[0, 0]],
    shift: 1,
    reads: range(size).map((column) => 1n << BigInt(column)),
  });

  function span(field, unit) {
    const period = Math.floor(unit / field.spans.length);
    const [first, last] = field.spans[unit - period * field.spans.length];
    return [first + period * field.shift, last + period * field.shift];
  }

  const union = (masks) => masks.reduce((all, mask) => all | mask, 0n);
  const sizeOf = (field) => Math.max(...field.spans.map(([first, last]) => last - first + 1));
  const strideOf = (field) => field.shift / field.spans.length;

  function through(field, made, mode) {
    if (!field || !made.regular) return null;
    if (made.kernel === 1 && made.step === 1 && made.count === made.size) return field;
    const common = gcd(made.stride, field.spans.length);
    const spans = [];
    for (let start = 0; start < (made.stride * field.spans.length) / common; start += made.stride) {
      for (const taps of made.taps) {
        const seen = taps.map((tap) => span(field, start + tap));
        spans.push([Math.min(...seen.map((one) => one[0])), Math.max(...seen.map((one) => one[1]))]);
      }
    }
    const size = field.reads.length;
    const at = (column) => {
      const real = column >= 0 && column < size ? column : PADDING_MODES[mode].repeats(column, size);
      return real === null || real === undefined ? 0n : field.reads[real];
    };
    const reads = range(made.count).map((unit) => {
      const period = Math.floor(unit / made.taps.length);
      return union(made.taps[unit % made.taps.length].map((tap) => at(period * made.stride + tap)));
    });
    return { image: field.image, spans, shift: (field.shift * made.stride) / common, reads };
  }

  function merge(fields) {
    const [first] = fields;
    if (fields.some((field) => !field)) return [null, true];
    if (fields.every((field) => field === first)) return [first, true];
    if (first.reads.length > 1 && fields.some((field) => strideOf(field) !== strideOf(first))) return [null, false];
    const period = fields.map((field) => field.spans.length).reduce(lcm);
    const longest = fields.reduce((best, field) => (strideOf(field) > strideOf(best) ? field : best));
    const branches = fields.map((field) => range(period).map((unit) => span(field, unit)));
    const centres = new Set(branches.map((spans) => sum(spans.flat())));
    const hull = {
      image: first.image,
      spans: range(period).map((unit) => [
        Math.min(...branches.map((spans) => spans[unit][0])),
        Math.max(...branches.map((spans) => spans[unit][1])),
      ]),
      shift: (longest.shift * period) / longest.spans.length,
      reads: first.reads.map((_, unit) => union(fields.map((field) => field.reads[unit]))),
    };
    return [hull, centres.size === 1];
  }

  // ---- what each kind of layer does ---------------------------------------------------------------------------------

  const KEPT = {
    ...Object.fromEntries(["relu", "sigmoid", "softmax", "tanh", "celu_", "elu_", "leaky_relu_", "selu_"].map((name) => [name, "output"])),
    ...Object.fromEntries(
      ["celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "mish", "prelu", "relu6", "selu"].map((name) => [name, "input"])
    ),
    silu: "input",
    softplus: "input",
  };

  const unchanged = (map) => both((side) => windowAxis(map.size[side], { kernel: 1 }));
  const everything = (map) => both((side) => windowAxis(map.size[side], { kernel: map.size[side] }));
  const elements = (map) => map.channels * map.size[0] * map.size[1];

  function windows(layer, map, make = windowAxis) {
    return both((side) =>
      make(map.size[side], {
        kernel: layer.kernel_size[side],
        stride: layer.stride[side],
        dilation: layer.dilation[side],
        padding: layer.padding[side],
        ceil: layer.ceil_mode,
      })
    );
  }

  function conv(layer, [map]) {
    const axes = windows(layer, map);
    const channels = layer.out_channels ?? map.channels;
    if (map.channels % layer.groups || channels % layer.groups) {
      throw new Refusal(`groups=${layer.groups} must divide its ${map.channels} input and ${channels} output channels`);
    }
    const weights = channels * (map.channels / layer.groups) * axes[0].kernel * axes[1].kernel;
    const macs = weights * axes[0].count * axes[1].count;
    return { channels, axes, params: weights + (layer.bias ? channels : 0), macs, saves: ["input"] };
  }

  function convTranspose(layer, [map]) {
    const axes = both((side) => {
      const padding = typeof layer.padding[side] === "number" ? layer.padding[side] : 0;
      const [kernel, stride, dilation] = [layer.kernel_size[side], layer.stride[side], layer.dilation[side]];
      return transposedAxis(map.size[side], layer.output_size[side], kernel, stride, dilation, padding);
    });
    const channels = layer.out_channels ?? map.channels;
    const weights = map.channels * (channels / layer.groups) * layer.kernel_size[0] * layer.kernel_size[1];
    const macs = weights * map.size[0] * map.size[1];
    return { channels, axes, params: weights + (layer.bias ? channels : 0), macs, saves: ["input"] };
  }

  function maxPool(layer, [map]) {
    const axes = windows(layer, map, poolAxis);
    const image_bytes = 8 * map.channels * axes[0].count * axes[1].count;
    return { channels: map.channels, axes, saves: ["input"], image_bytes };
  }

  // One fixed filter for each channel: no parameters, but multiplications all the same.
  function blurPool(layer, [map]) {
    const axes = windows(layer, map);
    const macs = map.channels * axes[0].kernel * axes[1].kernel * axes[0].count * axes[1].count;
    return { channels: map.channels, axes, macs, saves: ["input"] };
  }

  function spaceToDepth(layer, [map]) {
    const [height, width] = layer.stride;
    if (map.size[0] % height || map.size[1] % width) {
      throw new Refusal(`its sides must be multiples of ${height} and ${width} to be cut into blocks of ${height}x${width}`);
    }
    const axes = both((side) => poolAxis(map.size[side], { kernel: layer.stride[side], stride: layer.stride[side] }));
    return { channels: map.channels * height * width, axes };
  }

  function adaptivePool(layer, [map], indices) {
    if (layer.output_size[0] === 1 && layer.output_size[1] === 1) {
      const saved = indices ? { saves: ["input"], image_bytes: 8 * map.channels } : {};
      return { channels: map.channels, axes: everything(map), whole: true, ...saved };
    }
    const axes = both((side) => {
      const [size, count] = [map.size[side], layer.output_size[side]];
      if (size % count === 0) return windowAxis(size, { kernel: size / count, stride: size / count });
      const bins = range(count).map((bin) => Math.ceil(((bin + 1) * size) / count) - Math.floor((bin * size) / count));
      return irregularAxis(size, count, Math.max(...bins));
    });
    const image_bytes = indices ? 8 * map.channels * axes[0].count * axes[1].count : 0;
    return { channels: map.channels, axes, saves: ["input"], image_bytes };
  }

  function norm(layer, [map]) {
    const channels = map.channels;
    const kept = { group: 8 * layer.groups, instance: (layer.params === 0 ? 8 : 12) * channels, layer: 8 * map.size[0] * map.size[1] };
    const batch = !layer.function || layer.function === "batch";
    return {
      channels,
      axes: unchanged(map),
      params: 2 * channels,
      saves: ["input"],
      image_bytes: batch ? 0 : kept[layer.function],
      batch_bytes: batch ? 8 * channels : 0,
    };
  }

  const same = (map, more = {}) => ({ channels: map.channels, axes: unchanged(map), ...more });
  const joined = (maps) => maps.reduce((best, map) => (map.size[0] > best.size[0] || (map.size[0] === best.size[0] && map.size[1] > best.size[1]) ? map : best));

  const sizesOf = (maps) => maps.map((one) => `${one.channels}x${one.size.join("x")}`).join(" and ");

  // The map that the others are joined with, element by element; a single channel or pixel is broadcast.
  function agree(maps) {
    const large = maps.reduce((best, map) => (elements(map) > elements(best) ? map : best));
    for (const { channels, size } of maps) {
      const fits = size.join() === large.size.join() || size.join() === "1,1";
      if (!fits || (channels !== large.channels && channels !== 1)) {
        throw new Refusal(`maps that are joined element by element must be of one size, not ${sizesOf(maps)}`);
      }
    }
    return large;
  }

  // Where the units of the map that is read lie on the image: a field, its step and its padding along each axis.
  const unitsOf = ({ kernel_size, stride, padding }) => ({ field: kernel_size, stride, before: padding });

  const KINDS = {
    activation: (layer, [map]) => same(map, { saves: [KEPT[layer.function || "relu"]] }),
    adaptive_avg_pool: (layer, maps) => adaptivePool(layer, maps, false),
    adaptive_max_pool: (layer, maps) => adaptivePool(layer, maps, true),
    add: (layer, maps) => same(agree(maps)),
    avg_pool: (layer, [map]) => ({ channels: map.channels, axes: windows(layer, map, poolAxis), saves: ["input"] }),
    blur_pool: blurPool,
    concat: (layer, maps) => {
      if (new Set(maps.map((map) => map.size.join("x"))).size > 1) {
        throw new Refusal(`a concat needs maps of one size, not ${sizesOf(maps)}`);
      }
      return { channels: sum(maps.map((map) => map.channels)), axes: unchanged(maps[0]) };
    },
    conv,
    conv_transpose: convTranspose,
    dropout: (layer, [map]) => same(map, { image_bytes: 4 * elements(map) }),
    flatten: (layer, [map]) => ({ channels: elements(map), axes: everything(map), whole: true, aliases: true }),
    global_avg_pool: (layer, [map]) => ({ channels: map.channels, axes: everything(map), whole: true }),
    global_max_pool: (layer, [map]) => ({ channels: map.channels, axes: everything(map), whole: true, saves: ["input", "output"] }),
    identity: (layer, [map]) => same(map, { aliases: true }),
    interpolate: (layer, [map]) => ({
      channels: layer.out_channels ?? map.channels,
      axes: both((side) => interpolatedAxis(map.size[side], layer.output_size[side], layer.function)),
      saves: null,
    }),
    linear: (layer, [map]) => {
      if (map.size[0] !== 1 || map.size[1] !== 1) throw new Refusal("a linear layer reads a vector, not a map");
      const weights = layer.out_channels * map.channels;
      return { channels: layer.out_channels, axes: unchanged(map), params: weights + (layer.bias ? layer.out_channels : 0), macs: weights, saves: ["input"] };
    },
    max_pool: maxPool,
    multiply: (layer, maps) => {
      const map = maps.length === 1 ? maps[0] : agree(maps);
      return same(map, { params: maps.length === 1 ? map.channels : 0, saves: ["input"] });
    },
    norm,
    opaque: (layer, [map]) => ({
      channels: layer.out_channels,
      axes: both((side) => irregularAxis(map.size[side], layer.output_size[side])),
      params: null,
      macs: null,
      saves: null,
    }),
    pad: (layer, [map]) => ({
      channels: map.channels,
      axes: windows(layer, map),
      saves: PADDING_MODES[layer.padding_mode].keepsInput ? null : [],
    }),
    pointwise: (layer, [map]) => ({ channels: layer.out_channels ?? map.channels, axes: windows(layer, map), saves: null }),
    slice: (layer, [map]) => ({
      channels: layer.out_channels ?? map.channels,
      axes: both((side) => {
        const padding = layer.padding[side];
        return sliceAxis(map.size[side], Array.isArray(padding) ? -padding[0] : 0, layer.stride[side], layer.output_size[side]);
      }),
      saves: null,
    }),
    readout: conv,
    resample: (layer, [map]) => {
      const [[rows, columns], [height, width]] = [map.size, layer.output_size];
      const axes = both((side) => irregularAxis(map.size[side], layer.output_size[side]));
      return { channels: map.channels, axes, whole: true, macs: map.channels * rows * width * (columns + height), units: unitsOf(layer) };
    },
    soft_argmax: (layer, [map]) => ({
      channels: 4,
      axes: everything(map),
      whole: true,
      saves: ["input"],
      image_bytes: 4 * (map.size[0] * map.size[1] + 2),
      batch_bytes: 4 * sum(map.size),
      units: unitsOf(layer),
    }),
    space_to_depth: spaceToDepth,
    unused: (layer, [map]) => ({ channels: 0, axes: both((side) => irregularAxis(map.size[side], 0)), whole: true, params: null }),
  };

  // ---- a whole plan -------------------------------------------------------------------------------------------------

  const PLAIN = {
    out_channels: null,
    kernel_size: [1, 1],
    stride: [1, 1],
    dilation: [1, 1],
    padding: [0, 0],
    padding_mode: "zeros",
    groups: 1,
    bias: false,
    ceil_mode: false,
    output_size: null,
    function: "",
    params: null,
    macs: null,
    uncounted: "",
    activation_bytes: null,
    batch_bytes: null,
    remedy: "",
  };

  function padsExplicitly([[top, bottom], [left, right]], mode) {
    return top !== bottom || left !== right || (mode !== "zeros" && (top > 0 || left > 0));
  }

  // Bytes that autograd keeps for one image and no earlier layer keeps already.
  function keptBytes(layer, effect, pad, sources, saved) {
    if (effect.saves === null) return null;
    const kept = new Map();
    let copied = 0;
    if (effect.saves.includes("output")) kept.set(layer.name, elements(effect.map));
    if (effect.saves.includes("input") && padsExplicitly(pad, layer.padding_mode)) {
      const [source] = sources;
      const [height, width] = effect.axes.map((one) => one.before + one.size + one.after);
      copied = source.channels * height * width;
      if (PADDING_MODES[layer.padding_mode].keepsInput && source.needsGrad) kept.set(source.storage, elements(source));
    } else if (effect.saves.includes("input")) {
      for (const source of sources) kept.set(source.storage, elements(source));
    }
    const fresh = [...kept].filter(([storage]) => !saved.has(storage)).map(([, size]) => size);
    for (const storage of kept.keys()) saved.add(storage);
    return 4 * (copied + sum(fresh)) + (effect.image_bytes ?? 0);
  }

  function checkPads(mode, axes) {
    const { margin } = PADDING_MODES[mode];
    ["height", "width"].forEach((name, side) => {
      const { before, after, size } = axes[side];
      if (margin !== null && Math.max(before, after) > size - margin) {
        throw new Refusal(
          `padding_mode '${mode}' cannot pad a ${name} of ${size} by ${before} and ${after}; ` +
            `${size - margin} on a side is the most`
        );
      }
    });
  }

  const RESIZED = ["conv_transpose", "interpolate", "slice", "opaque"];

  // How large a map becomes that was seen at one size: known where steps are, not where a size or a factor was asked for.
  function resized(layer, [{ size }]) {
    if (!layer.seen || !RESIZED.includes(layer.kind) || size.join() === layer.seen.input_size.join()) return layer.output_size;
    if (layer.kind !== "conv_transpose") {
      const [from, to] = [layer.seen.input_size, layer.seen.output_size].map((one) => one.join("x"));
      throw new Refusal(`it made ${to} of ${from} when it ran, and what it makes of another map is not known`);
    }
    return layer.output_size.map((count, side) => count + (size[side] - layer.seen.input_size[side]) * layer.stride[side]);
  }

  function measureLayer(given, maps, saved) {
    const sources = given.inputs.map((name) => maps.get(name));
    const layer = { ...PLAIN, ...given };
    layer.output_size = resized(layer, sources);
    const effect = { params: 0, macs: 0, saves: [], image_bytes: 0, batch_bytes: 0, whole: false, ...KINDS[layer.kind](layer, sources) };
    checkPads(layer.padding_mode, effect.axes);
    const size = effect.axes.map((one) => one.count);
    effect.map = { channels: effect.channels, size };
    const large = joined(sources);
    const local = sources.filter((source) => source.size.join() === large.size.join());
    const [rows, columns] = both((side) => (sources.length === 1 ? [sources[0].fields[side], true] : merge(local.map((source) => source.fields[side]))));
    const fields = [rows[0], columns[0]].map((field, side) => through(field, effect.axes[side], layer.padding_mode));
    const params = layer.params ?? effect.params;
    const pad = effect.axes.map((one) => [one.before, one.after]);
    const here = {
      ...effect.map,
      fields,
      storage: effect.aliases ? sources[0].storage : layer.name,
      needsGrad: params !== 0 || sources.some((source) => source.needsGrad),
      whole: effect.whole || sources.every((source) => source.whole),
    };
    const kept = here.needsGrad ? keptBytes(layer, effect, pad, sources, saved) : 0;
    maps.set(layer.name, here);
    const pair = (name) => effect.axes.map((one) => one[name]);
    const now = { input_size: pair("size"), output_size: size, kernel_size: pair("kernel") };
    const isAsSeen = Object.entries(layer.seen ?? {}).every(([name, seen]) => seen.join() === now[name].join());
    const told = (name, rule) => (layer[name] === null ? rule : isAsSeen ? layer[name] : null);
    const known = fields[0] && fields[1];
    return {
      ...layer,
      in_channels: sources.length === 1 ? sources[0].channels : effect.channels,
      out_channels: effect.channels,
      ...now,
      stride: pair("step"),
      dilation: pair("dilation"),
      pad,
      unread_padding: pair("unread_padding"),
      unread_pixels: pair("unread_pixels"),
      skipped_pixels: pair("skipped_pixels"),
      hole_pixels: pair("hole_pixels"),
      uneven: pair("uneven"),
      receptive_field: known ? fields.map(sizeOf) : null,
      effective_stride: known ? fields.map(strideOf) : null,
      region: known ? fields.map((field) => field.spans[0]) : null,
      misaligned: !(rows[1] && columns[1]) && !local.every((source) => source.whole),
      whole: here.whole,
      params,
      macs: layer.uncounted ? null : told("macs", effect.macs),
      activation_bytes: told("activation_bytes", kept),
      batch_bytes: layer.batch_bytes ?? effect.batch_bytes,
      fields,
      axes: effect.axes,
      units: effect.units ?? null,
    };
  }

  // One measured layer for each layer; a Refusal names the layer and the size of its map.
  function measure(plan) {
    const maps = new Map([
      ["image", { channels: plan.input_channels, size: plan.input_size, storage: "image", needsGrad: false, fields: plan.input_size.map(imageField), whole: false }],
    ]);
    const saved = new Set();
    return plan.layers.map((layer) => {
      try {
        return measureLayer(layer, maps, saved);
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        const sizes = layer.inputs.map((name) => maps.get(name).size.join("x")).join(" and ");
        const remedy = layer.remedy ? `; ${layer.remedy}` : "";
        throw new Refusal(`layer '${layer.name}' (${layer.kind}) on a map of ${sizes}: ${error.message}${remedy}`);
      }
    });
  }

  const addUp = (values) => (values.some((value) => value === null) ? null : sum(values));

  function totals(layers) {
    return {
      params: addUp(layers.map((layer) => layer.params)),
      macs: addUp(layers.map((layer) => layer.macs)),
      activation_bytes: addUp(layers.map((layer) => layer.activation_bytes)),
      last_map: layers.filter((layer) => !layer.whole).at(-1) ?? null,
    };
  }

  // The columns of the image that no unit of a map reads, along one axis.
  function unread(field) {
    const read = union(field.reads);
    return range(field.image).filter((column) => !((read >> BigInt(column)) & 1n));
  }

  // The columns of its padded input, from -before on, that no unit of a layer reads, along one axis.
  function unreadInput(made) {
    const read = new Set();
    for (const unit of range(made.count)) {
      const period = Math.floor(unit / made.taps.length);
      for (const tap of made.taps[unit % made.taps.length]) read.add(period * made.stride + tap);
    }
    return range(made.before + made.size + made.after).map((at) => at - made.before).filter((at) => !read.has(at));
  }

  // [first, last] column of its input under the window of a unit, along one axis.
  function windowOf(made, unit) {
    const taps = made.taps[unit % made.taps.length];
    const start = Math.floor(unit / made.taps.length) * made.stride;
    return [start + Math.min(...taps), start + Math.max(...taps)];
  }

  return { Refusal, PADDINGS, PADDING_MODES, measure, totals, unread, unreadInput, windowOf, spanOf: span };
})();
