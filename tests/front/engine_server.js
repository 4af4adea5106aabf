// The live engine under Node.js, for tests in Python: a request is one line of JSON on the standard input, its answer one
// line on the standard output. Arrays of numbers come and go as {type: base64}, see TYPES.

import { createInterface } from "node:readline";
import { engineOf } from "../../tokentm_widgets/front/engine/answering.js";
import { explained, Picture } from "../../tokentm_widgets/front/engine/explaining.js";
import { normalised, resize, seenOf } from "../../tokentm_widgets/front/engine/preparing.js";
import { fastest } from "../../tokentm_widgets/front/engine/products.js";
import { vitOf } from "../../tokentm_widgets/front/engine/vit.js";

const TYPES = { f4: Float32Array, i2: Int16Array, u1: Uint8Array, u2: Uint16Array };

const engine = engineOf();
let vit = null;

/** Beside what the engine answers itself: what tests look at from nearer. */
const ACTS = {
  /** Opens a model; without WebAssembly as in a page that does not allow it. */
  open({ spec, weights, wasm = true }, report) {
    const { WebAssembly } = globalThis;
    if (!wasm) delete globalThis.WebAssembly;
    try {
      vit = vitOf(spec, weights, fastest().product);
      return engine("open", { spec, weights }, report);
    } finally {
      globalThis.WebAssembly = WebAssembly;
    }
  },
  /** Each token's share in what the classifier reads, (N), which the engine has in no answer of its own. */
  readout: ({ image, target }) => ({ readout: new Picture(vit, image).of(target).asked.gradients.readout }),
  /** Milliseconds of a picture's forward pass, its backward pass, and one method. */
  timed({ image, target, method }) {
    const times = [performance.now()];
    const picture = new Picture(vit, image);
    times.push(performance.now());
    const { asked } = picture.of(target);
    times.push(performance.now());
    explained(asked, method);
    times.push(performance.now());
    return { ms: [1, 2, 3].map((i) => times[i] - times[i - 1]) };
  },
  resized({ data, width, height, to, filter }) {
    const [wide, high] = to;
    return { data: Uint8Array.from(resize({ data, width, height }, wide, high, filter).data) };
  },
  prepared({ data, width, height, how }) {
    const seen = seenOf({ data, width, height }, how);
    return { seen: Uint8Array.from(seen.data), size: [seen.width, seen.height], image: normalised(seen, how) };
  },
};

const bytesOf = (text) => {
  const { buffer, byteOffset, length } = Buffer.from(text, "base64");
  return buffer.slice(byteOffset, byteOffset + length);
};

/** {type: base64} as an array of numbers; whatever else there is as it is. */
function read(_, value) {
  const [type, ...others] = value && typeof value === "object" ? Object.keys(value) : [];
  return others.length || !TYPES[type] ? value : new TYPES[type](bytesOf(value[type]));
}

function write(_, value) {
  const type = Object.keys(TYPES).find((one) => value instanceof TYPES[one]);
  if (!type) return value;
  const { buffer, byteOffset, byteLength } = value;
  return { [type]: Buffer.from(buffer, byteOffset, byteLength).toString("base64") };
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const { act, given } = JSON.parse(line, read);
  const shares = [];
  const report = (share) => shares.push(share);
  let sent;
  try {
    sent = { answer: ACTS[act] ? ACTS[act](given, report) : engine(act, given, report), shares };
  } catch (error) {
    sent = { error: error.message, stack: error.stack };
  }
  process.stdout.write(`${JSON.stringify(sent, write)}\n`);
});
