// Computes the steps of `study/decoder_program.py`: a decoder for one image, in plain JavaScript.
const decoder = (() => {
"use strict";
function halves(text) {  // base64 of float16, little endian -> Float32Array
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const words = new Uint16Array(bytes.buffer, 0, bytes.length >> 1), made = new Float32Array(words.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i], sign = word & 0x8000 ? -1 : 1, power = (word >> 10) & 31, part = word & 1023;
    made[i] = sign * (power ? power === 31 ? (part ? NaN : Infinity) : 2 ** (power - 15) * (1 + part / 1024) : 2 ** -24 * part);
  }
  return made;
}
const size = shape => shape.reduce((a, b) => a * b, 1);
function erf(x) {  // Abramowitz & Stegun 7.1.26: error below 2e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const y = 1 - ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * Math.exp(-x * x);
  return x < 0 ? -y : y;
}
const each = {
  relu: x => x > 0 ? x : 0, sigmoid: x => 1 / (1 + Math.exp(-x)), tanh: Math.tanh, silu: x => x / (1 + Math.exp(-x)),
  sin: Math.sin, cos: Math.cos, exp: Math.exp, neg: x => -x, abs: Math.abs, sqrt: Math.sqrt, erf, log: Math.log,
  square: x => x * x, rsqrt: x => 1 / Math.sqrt(x),
  leaky_relu: (x, a) => x > 0 ? x : a[0] * x,
  elu: (x, a) => x > 0 ? a[1] * x : a[0] * a[1] * (Math.exp(a[2] * x) - 1),
  gelu: (x, a) => a[0] ? 0.5 * x * (1 + Math.tanh(0.7978845608 * (x + 0.044715 * x * x * x))) : 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  hardtanh: (x, a) => x < a[0] ? a[0] : x > a[1] ? a[1] : x,
  clamp: (x, a) => x < a[0] ? a[0] : x > a[1] ? a[1] : x,
  clamp_min: (x, a) => x < a[0] ? a[0] : x,
  softplus: (x, a) => a[0] * x > a[1] ? x : Math.log1p(Math.exp(a[0] * x)) / a[0],
  pow: (x, a) => Math.pow(x, a[0]),
};
const two = {
  add: (x, y) => x + y, sub: (x, y) => x - y, mul: (x, y) => x * y, div: (x, y) => x / y, rsub: (x, y) => y - x,
  max: Math.max, min: Math.min,
};
function strides(shape, full) {  // of a shape that is repeated to `full`: 0 where it is repeated
  const made = new Array(full.length).fill(0);
  for (let i = shape.length - 1, j = full.length - 1, step = 1; i >= 0; step *= shape[i], i--, j--) made[j] = shape[i] === 1 ? 0 : step;
  return made;
}
function walk(shape, ways, visit) {  // calls visit(number, places) for each element in order
  const count = size(shape), at = new Array(shape.length).fill(0), places = ways.map(() => 0);
  for (let n = 0; n < count; n++) {
    visit(n, places);
    for (let d = shape.length - 1; d >= 0; d--) {
      at[d]++;
      for (let k = 0; k < ways.length; k++) places[k] += ways[k][d];
      if (at[d] < shape[d]) break;
      for (let k = 0; k < ways.length; k++) places[k] -= ways[k][d] * shape[d];
      at[d] = 0;
    }
  }
}
const ops = {
  same: (s, x) => x,
  each: (s, x, out) => { const f = each[s.f], a = s.a; for (let i = 0; i < out.length; i++) out[i] = f(x[i], a); return out; },
  two(s, values, out, w) {
    const f = two[s.f];
    const [x, y] = [s.a, s.b].map(side => "n" in side ? [side.n] : "c" in side ? w(side.c) : values[side.v]);
    walk(s.shape, [strides(s.a.shape, s.shape), strides(s.b.shape, s.shape)], (n, p) => { out[n] = f(x[p[0]], y[p[1]]); });
    return out;
  },
  dense(s, x, out, w) {
    const matrix = w(s.w), bias = s.b && w(s.b);
    for (let r = 0; r < s.rows; r++) for (let o = 0; o < s.outs; o++) {
      let sum = bias ? bias[bias.length === s.outs ? o : r * s.outs + o] : 0;
      for (let i = 0, m = o * s.ins, g = r * s.ins; i < s.ins; i++) sum += matrix[m++] * x[g++];
      out[r * s.outs + o] = sum;
    }
    return out;
  },
  conv(s, x, out, w) {
    const [, C, H, W] = s.from, [, O, Y, X] = s.shape, [, I, KY, KX] = s.kernel, kernel = w(s.w), bias = s.b && w(s.b);
    const each = O / s.groups;
    for (let o = 0; o < O; o++) {
      const base = Math.floor(o / each) * I, plane = o * Y * X;
      out.fill(bias ? bias[o] : 0, plane, plane + Y * X);
      for (let i = 0; i < I; i++) for (let ky = 0; ky < KY; ky++) for (let kx = 0; kx < KX; kx++) {
        const k = kernel[((o * I + i) * KY + ky) * KX + kx];
        for (let y = 0; y < Y; y++) {
          const iy = y * s.stride[0] - s.padding[0] + ky * s.dilation[0];
          if (iy < 0 || iy >= H) continue;
          const row = ((base + i) * H + iy) * W - s.padding[1] + kx * s.dilation[1], to = plane + y * X;
          const low = Math.max(0, Math.ceil((s.padding[1] - kx * s.dilation[1]) / s.stride[1]));
          const high = Math.min(X - 1, Math.floor((W - 1 + s.padding[1] - kx * s.dilation[1]) / s.stride[1]));
          for (let q = low; q <= high; q++) out[to + q] += k * x[row + q * s.stride[1]];
        }
      }
    }
    return out;
  },
  up(s, x, out, w) {  // transposed convolution
    const [, C, H, W] = s.from, [, O, Y, X] = s.shape, [, I, KY, KX] = s.kernel, kernel = w(s.w), bias = s.b && w(s.b);
    const inputs = C / s.groups;
    for (let o = 0; o < O; o++) out.fill(bias ? bias[o] : 0, o * Y * X, (o + 1) * Y * X);
    for (let c = 0; c < C; c++) for (let i = 0; i < I; i++) {
      const plane = (Math.floor(c / inputs) * I + i) * Y * X;
      for (let ky = 0; ky < KY; ky++) for (let kx = 0; kx < KX; kx++) {
        const k = kernel[((c * I + i) * KY + ky) * KX + kx];
        for (let y = 0; y < H; y++) {
          const oy = y * s.stride[0] - s.padding[0] + ky * s.dilation[0];
          if (oy < 0 || oy >= Y) continue;
          const to = plane + oy * X - s.padding[1] + kx * s.dilation[1], from = (c * H + y) * W;
          const low = Math.max(0, Math.ceil((s.padding[1] - kx * s.dilation[1]) / s.stride[1]));
          const high = Math.min(W - 1, Math.floor((X - 1 + s.padding[1] - kx * s.dilation[1]) / s.stride[1]));
          for (let q = low; q <= high; q++) out[to + q * s.stride[1]] += k * x[from + q];
        }
      }
    }
    return out;
  },
  norm(s, x, out, w) {
    const factor = s.w && w(s.w), summand = s.b && w(s.b);
    for (let start = 0; start < x.length; start += s.size) {
      let mean = 0, spread = 0;
      for (let i = 0; i < s.size; i++) mean += x[start + i] / s.size;
      for (let i = 0; i < s.size; i++) spread += (x[start + i] - mean) ** 2 / s.size;
      const scale = 1 / Math.sqrt(spread + s.eps);
      for (let i = 0; i < s.size; i++) out[start + i] = (x[start + i] - mean) * scale * (factor ? factor[i] : 1) + (summand ? summand[i] : 0);
    }
    return out;
  },
  permute(s, x, out) {
    const own = strides(s.from, s.from).map((step, d) => s.from[d] === 1 ? 0 : step);
    walk(s.shape, [s.order.map(d => own[d])], (n, p) => { out[n] = x[p[0]]; });
    return out;
  },
  part(s, x, out) {  // from `start` along one axis
    const own = strides(s.from, s.from), base = s.start * (own[s.dim] || 1), ways = own.map((step, d) => d === s.dim ? step * s.step : step);
    walk(s.size, [ways], (n, p) => { out[n] = x[base + p[0]]; });
    return out;
  },
  mean(s, x, out) {
    const kept = s.from.map((n, d) => s.dims.includes(d) ? 1 : n), count = s.dims.reduce((a, d) => a * s.from[d], 1);
    out.fill(0);
    walk(s.from, [strides(s.from, s.from), strides(kept, s.from)], (n, p) => { out[p[1]] += x[p[0]] / count; });
    return out;
  },
  cat(s, values, out, w) {
    const after = size(s.shape.slice(s.dim + 1)), before = size(s.shape.slice(0, s.dim)), whole = s.shape[s.dim] * after;
    let start = 0;
    for (const part of s.parts) {
      const x = "c" in part ? w(part.c) : values[part.v], length = part.shape[s.dim] * after;
      for (let b = 0; b < before; b++) for (let i = 0; i < length; i++) out[b * whole + start + i] = x[b * length + i];
      start += length;
    }
    return out;
  },
  attend(s, [query, key, value], out) {
    const scores = new Float32Array(s.columns);
    for (let h = 0; h < s.heads; h++) for (let r = 0; r < s.rows; r++) {
      let most = -Infinity, total = 0;
      for (let c = 0; c < s.columns; c++) {
        let sum = 0;
        for (let i = 0; i < s.width; i++) sum += query[(h * s.rows + r) * s.width + i] * key[(h * s.columns + c) * s.width + i];
        most = Math.max(most, scores[c] = sum * s.scale);
      }
      for (let c = 0; c < s.columns; c++) total += scores[c] = Math.exp(scores[c] - most);
      for (let i = 0; i < s.out; i++) {
        let sum = 0;
        for (let c = 0; c < s.columns; c++) sum += scores[c] * value[(h * s.columns + c) * s.out + i];
        out[(h * s.rows + r) * s.out + i] = sum / total;
      }
    }
    return out;
  },
  shuffle(s, x, out) {
    const [, C, H, W] = s.from, by = s.by, [, O, Y, X] = s.shape;
    for (let o = 0; o < O; o++) for (let y = 0; y < Y; y++) for (let q = 0; q < X; q++) {
      const c = (o * by + y % by) * by + q % by;
      out[(o * Y + y) * X + q] = x[(c * H + Math.floor(y / by)) * W + Math.floor(q / by)];
    }
    return out;
  },
  resize(s, x, out) {
    const [, C, H, W] = s.from, [, , Y, X] = s.shape;
    const place = (n, from, to) => {
      if (!s.smooth) return [Math.min(from - 1, Math.floor(n * from / to)), 0, 0];
      const at = s.corners ? (to > 1 ? n * (from - 1) / (to - 1) : 0) : Math.max(0, (n + 0.5) * from / to - 0.5);
      const low = Math.min(from - 1, Math.floor(at));
      return [low, Math.min(from - 1, low + 1), at - low];
    };
    for (let y = 0; y < Y; y++) for (let q = 0; q < X; q++) {
      const [y0, y1, v] = place(y, H, Y), [x0, x1, u] = place(q, W, X);
      for (let c = 0; c < C; c++) {
        const at = (r, k) => x[(c * H + r) * W + k];
        out[(c * Y + y) * X + q] = v || u
          ? (1 - v) * ((1 - u) * at(y0, x0) + u * at(y0, x1)) + v * ((1 - u) * at(y1, x0) + u * at(y1, x1)) : at(y0, x0);
      }
    }
    return out;
  },
};
const many = ["two", "cat", "attend"];  // of several values
function prepare(program) {  // -> a function of a latent (Float32Array) to an image (C H W)
  const weights = halves(program.weights), w = ([offset, count]) => weights.subarray(offset, offset + count);
  const buffers = program.steps.map(s => new Float32Array(s.op === "same" ? 0 : size(s.shape)));
  return latent => {
    const values = [latent];
    program.steps.forEach((s, n) => {
      const given = many.includes(s.op) ? s.in.map(i => values[i]) : values[s.in[0]];
      values.push(ops[s.op](s, given, buffers[n], w));
    });
    return values[values.length - 1];
  };
}
return {halves, prepare};
})();
