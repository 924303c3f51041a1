// The networks that were trained, executed in the browser: a plan, its weights and an image in, every map out.
const network = (() => {
  "use strict";

  const { PADDING_MODES } = geometry;

  class Missing extends Error {}

  // ---- weights ------------------------------------------------------------------------------------------------------

  const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 0x1f;
    const fraction = bits & 0x3ff;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  // {shape, f16 | f32: base64, little-endian} -> {shape, values: Float32Array}
  function tensor({ shape, f16, f32 }) {
    if (f32 !== undefined) return { shape, values: new Float32Array(bytesOf(f32).buffer) };
    const bits = new Uint16Array(bytesOf(f16).buffer);
    return { shape, values: Float32Array.from(bits, half) };
  }

  // ---- maps: {channels, size: [height, width], values: Float32Array} --------------------------------------------------

  const map = (channels, size, values) => ({ channels, size, values: values ?? new Float32Array(channels * size[0] * size[1]) });

  // The input with its pads around it; a negative pad, or a window that ends early, leaves columns out.
  function padded(input, [[top, bottom], [left, right]], mode, fill = 0) {
    const [height, width] = input.size;
    if (!top && !bottom && !left && !right) return input;
    const sources = (size, before, after) =>
      Array.from({ length: before + size + after }, (_, index) => {
        const at = index - before;
        return at >= 0 && at < size ? at : PADDING_MODES[mode].repeats(at, size) ?? -1;
      });
    const [rows, columns] = [sources(height, top, bottom), sources(width, left, right)];
    const output = map(input.channels, [rows.length, columns.length]);
    let at = 0;
    for (let channel = 0; channel < input.channels; channel++) {
      for (const row of rows) {
        const start = (channel * height + row) * width;
        for (const column of columns) output.values[at++] = row < 0 || column < 0 ? fill : input.values[start + column];
      }
    }
    return output;
  }

  function conv(layer, [input], weights) {
    const { values: weight } = weights.weight;
    const from = padded(input, layer.pad, layer.padding_mode);
    const [height, width] = layer.output_size;
    const [[kernelHeight, kernelWidth], [strideDown, strideRight], [dilateDown, dilateRight]] = [layer.kernel_size, layer.stride, layer.dilation];
    const [, wide] = from.size;
    const area = from.size[0] * wide;
    const output = map(layer.out_channels, layer.output_size);
    const [inGroup, outGroup] = [input.channels / layer.groups, layer.out_channels / layer.groups];
    for (let out = 0; out < layer.out_channels; out++) {
      const base = out * height * width;
      if (weights.bias) output.values.fill(weights.bias.values[out], base, base + height * width);
      for (let channel = 0; channel < inGroup; channel++) {
        const source = (Math.floor(out / outGroup) * inGroup + channel) * area;
        for (let y = 0; y < kernelHeight; y++) {
          for (let x = 0; x < kernelWidth; x++) {
            const factor = weight[((out * inGroup + channel) * kernelHeight + y) * kernelWidth + x];
            let to = base;
            for (let row = 0; row < height; row++) {
              let at = source + (row * strideDown + y * dilateDown) * wide + x * dilateRight;
              for (let column = 0; column < width; column++, at += strideRight) output.values[to++] += factor * from.values[at];
            }
          }
        }
      }
    }
    return output;
  }

  // Rows of Pascal's triangle, with sum 1.
  function binomial(size) {
    let row = [1];
    while (row.length < size) row = [1, ...row.slice(1).map((value, at) => value + row[at]), 1];
    return row.map((value) => value / 2 ** (size - 1));
  }

  function blurPool(layer, maps) {
    const [rows, columns] = layer.kernel_size.map(binomial);
    const filter = rows.flatMap((row) => columns.map((column) => row * column));
    const channels = maps[0].channels;
    const values = Float32Array.from({ length: channels * filter.length }, (_, at) => filter[at % filter.length]);
    return conv({ ...layer, groups: channels }, maps, { weight: { values } });
  }

  // Channel by channel, the pixels of each block in reading order, as PyTorch's PixelUnshuffle.
  function spaceToDepth(layer, [input]) {
    const [[down, right], [height, width]] = [layer.stride, layer.output_size];
    const output = map(layer.out_channels, layer.output_size);
    let to = 0;
    for (let channel = 0; channel < input.channels; channel++) {
      for (let y = 0; y < down; y++) {
        for (let x = 0; x < right; x++) {
          for (let row = 0; row < height; row++) {
            const from = (channel * input.size[0] + row * down + y) * input.size[1] + x;
            for (let column = 0; column < width; column++) output.values[to++] = input.values[from + column * right];
          }
        }
      }
    }
    return output;
  }

  function pool(layer, [input], combine, finish, fill) {
    const [height, width] = layer.output_size;
    const [rows, columns] = layer.axes;
    const end = (axis) => geometry.windowOf(axis, axis.count - 1)[1] + 1 - axis.size;
    const from = padded(input, [[rows.before, end(rows)], [columns.before, end(columns)]], layer.padding_mode, fill);
    const output = map(input.channels, layer.output_size);
    let to = 0;
    for (let channel = 0; channel < input.channels; channel++) {
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          let value = fill;
          for (let y = 0; y < layer.kernel_size[0]; y++) {
            const line = (channel * from.size[0] + row * layer.stride[0] + y * layer.dilation[0]) * from.size[1];
            for (let x = 0; x < layer.kernel_size[1]; x++) {
              value = combine(value, from.values[line + column * layer.stride[1] + x * layer.dilation[1]]);
            }
          }
          output.values[to++] = finish(value, row, column, layer);
        }
      }
    }
    return output;
  }

  // PyTorch divides by the window's area, of which padding that was asked for counts and an overhang does not.
  function divided(value, row, column, layer) {
    const length = (side, unit) => {
      const { before, after, size, stride, kernel } = layer.axes[side];
      const start = unit * stride - before;
      return Math.min(start + kernel, size + after) - start;
    };
    return value / (length(0, row) * length(1, column));
  }

  function overMap(input, combine) {
    const area = input.size[0] * input.size[1];
    return map(input.channels, [1, 1], Float32Array.from({ length: input.channels }, (_, channel) => combine(input.values.subarray(channel * area, (channel + 1) * area))));
  }

  const mean = (values) => values.reduce((total, value) => total + value, 0) / values.length;

  function adaptive(layer, [input], combine) {
    const [height, width] = layer.output_size;
    const output = map(input.channels, layer.output_size);
    const bin = (unit, count, size) => [Math.floor((unit * size) / count), Math.ceil(((unit + 1) * size) / count)];
    let to = 0;
    for (let channel = 0; channel < input.channels; channel++) {
      for (let row = 0; row < height; row++) {
        for (let column = 0; column < width; column++) {
          const [[top, bottom], [left, right]] = [bin(row, height, input.size[0]), bin(column, width, input.size[1])];
          const values = [];
          for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) values.push(input.values[(channel * input.size[0] + y) * input.size[1] + x]);
          output.values[to++] = combine(values);
        }
      }
    }
    return output;
  }

  function norm(layer, [input], { scale, shift, weight, bias, eps }) {
    const area = input.size[0] * input.size[1];
    const output = map(input.channels, input.size);
    if (layer.function === "layer") {
      for (let at = 0; at < area; at++) {
        const values = Array.from({ length: input.channels }, (_, channel) => input.values[channel * area + at]);
        const centre = mean(values);
        const deviation = Math.sqrt(mean(values.map((value) => (value - centre) ** 2)) + eps);
        values.forEach((value, channel) => {
          output.values[channel * area + at] = ((value - centre) / deviation) * weight.values[channel] + bias.values[channel];
        });
      }
      return output;
    }
    for (let channel = 0; channel < input.channels; channel++) {
      const [factor, offset] = [scale.values[channel], shift.values[channel]];
      for (let at = channel * area; at < (channel + 1) * area; at++) output.values[at] = input.values[at] * factor + offset;
    }
    return output;
  }

  // Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 7.1.26: off by 1.5e-7 at most.
  function erf(x) {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return Math.sign(x) * (1 - series * Math.exp(-x * x));
  }

  const ACTIVATIONS = {
    relu: (x) => (x > 0 ? x : 0),
    relu6: (x) => Math.min(Math.max(x, 0), 6),
    leaky_relu: (x) => (x > 0 ? x : 0.01 * x),
    elu: (x) => (x > 0 ? x : Math.expm1(x)),
    gelu: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
    silu: (x) => x / (1 + Math.exp(-x)),
    tanh: Math.tanh,
    sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  };

  function joined(maps, combine) {
    const large = maps.reduce((best, one) => (one.values.length > best.values.length ? one : best));
    const area = large.size[0] * large.size[1];
    const at = (one, index) => {
      const channel = one.channels === 1 ? 0 : Math.floor(index / area);
      return one.size[0] === 1 && one.size[1] === 1 ? one.values[channel] : one.values[channel * area + (index % area)];
    };
    return map(large.channels, large.size, large.values.map((_, index) => maps.map((one) => at(one, index)).reduce(combine)));
  }

  function linear(layer, [input], { weight, bias }) {
    const output = map(layer.out_channels, [1, 1]);
    for (let out = 0; out < layer.out_channels; out++) {
      let total = bias ? bias.values[out] : 0;
      for (let at = 0; at < input.channels; at++) total += weight.values[out * input.channels + at] * input.values[at];
      output.values[out] = total;
    }
    return output;
  }

  function concat(maps) {
    const values = new Float32Array(maps.reduce((total, one) => total + one.values.length, 0));
    let at = 0;
    for (const one of maps) {
      values.set(one.values, at);
      at += one.values.length;
    }
    return map(maps.reduce((total, one) => total + one.channels, 0), maps[0].size, values);
  }

  // Where on the image the middles of what a map's units see lie, along one axis: its layer says how they are placed.
  const centres = (layer, map, side) => Array.from({ length: map.size[side] }, (_, unit) => unit * layer.units.stride[side] - layer.units.before[side] + (layer.units.field[side] - 1) / 2);

  // Row, column, presence (a logit) and variance in pixels: of a map of scores and one of presence.
  function softArgmax(layer, [input]) {
    const area = input.size[0] * input.size[1];
    const weights = softmax(input.values.subarray(0, area));
    const places = [0, 1].map((side) => centres(layer, input, side));
    const at = [(index) => places[0][Math.floor(index / input.size[1])], (index) => places[1][index % input.size[1]]];
    const over = (value) => weights.reduce((total, weight, index) => total + weight * value(index), 0);
    const means = at.map(over);
    const spread = at.reduce((total, place, side) => total + over((index) => place(index) ** 2) - means[side] ** 2, 0);
    return map(4, [1, 1], Float32Array.of(...means, over((index) => input.values[area + index]), spread));
  }

  // Between the units' centres, to a value a pixel; beyond the outermost, the nearest unit's.
  function resample(layer, [input]) {
    const taps = [0, 1].map((side) => {
      const units = centres(layer, input, side);
      const step = units.length > 1 ? units[1] - units[0] : 1;
      return Array.from({ length: layer.output_size[side] }, (_, pixel) => {
        const place = Math.min(Math.max((pixel - units[0]) / step, 0), units.length - 1);
        const first = Math.min(Math.floor(place), units.length - 1);
        return [first, Math.min(first + 1, units.length - 1), place - first];
      });
    });
    const output = map(input.channels, layer.output_size);
    let to = 0;
    for (let channel = 0; channel < input.channels; channel++) {
      const value = (row, column) => input.values[(channel * input.size[0] + row) * input.size[1] + column];
      for (const [top, bottom, down] of taps[0]) {
        for (const [left, right, across] of taps[1]) {
          const along = (row) => value(row, left) * (1 - across) + value(row, right) * across;
          output.values[to++] = along(top) * (1 - down) + along(bottom) * down;
        }
      }
    }
    return output;
  }

  const KINDS = {
    activation: (layer, [input]) => map(input.channels, input.size, input.values.map(ACTIVATIONS[layer.function || "relu"])),
    adaptive_avg_pool: (layer, maps) => adaptive(layer, maps, mean),
    adaptive_max_pool: (layer, maps) => adaptive(layer, maps, (values) => Math.max(...values)),
    add: (layer, maps) => joined(maps, (a, b) => a + b),
    avg_pool: (layer, maps) => pool(layer, maps, (a, b) => a + b, divided, 0),
    blur_pool: blurPool,
    concat: (layer, maps) => concat(maps),
    conv,
    dropout: (layer, [input]) => input,
    flatten: (layer, [input]) => map(input.values.length, [1, 1], input.values),
    global_avg_pool: (layer, [input]) => overMap(input, mean),
    global_max_pool: (layer, [input]) => overMap(input, (values) => Math.max(...values)),
    identity: (layer, [input]) => input,
    linear,
    max_pool: (layer, maps) => pool(layer, maps, Math.max, (value) => value, -Infinity),
    multiply: (layer, maps, weights) => joined(weights ? [...maps, map(weights.weight.values.length, [1, 1], weights.weight.values)] : maps, (a, b) => a * b),
    norm,
    readout: conv,
    resample,
    soft_argmax: softArgmax,
    space_to_depth: spaceToDepth,
    pad: (layer, [input]) => padded(input, layer.pad, layer.padding_mode),
  };

  // Every map by its layer's name. Missing: a kind of layer, or weights of this shape, that the page does not have.
  function forward(layers, weights, image) {
    const maps = { image };
    for (const layer of layers) {
      const run = KINDS[layer.kind];
      const here = weights[layer.name];
      if (!run) throw new Missing(`layer '${layer.name}': the page cannot compute a ${layer.kind}`);
      if (["conv", "linear", "norm", "readout"].includes(layer.kind) && !here) throw new Missing(`layer '${layer.name}' has no weights here`);
      const filter = [layer.out_channels, layer.in_channels / layer.groups, ...layer.kernel_size];
      const wanted = { conv: filter, readout: filter, linear: filter.slice(0, 2) }[layer.kind];
      if (wanted && here.weight.shape.join("x") !== wanted.join("x")) {
        throw new Missing(`layer '${layer.name}' was trained with weights of ${here.weight.shape.join("x")}, and would need ${wanted.join("x")}`);
      }
      maps[layer.name] = run(layer, layer.inputs.map((name) => maps[name]), here);
    }
    return maps;
  }

  // Tensors by layer and parameter, decoded once.
  function decoded(weights) {
    const layers = Object.entries(weights ?? {}).map(([layer, parts]) => [
      layer,
      Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, typeof part === "number" ? part : tensor(part)])),
    ]);
    return Object.fromEntries(layers);
  }

  function softmax(logits) {
    const top = Math.max(...logits);
    const powers = Array.from(logits, (value) => Math.exp(value - top));
    const all = powers.reduce((a, b) => a + b, 0);
    return powers.map((value) => value / all);
  }

  return { Missing, KINDS, forward, tensor, decoded, softmax, binomial, map, bytesOf };
})();
