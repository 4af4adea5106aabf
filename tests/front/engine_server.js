// The live engine under Node.js, for tests in Python: a request is one line of JSON on the standard input, its answer one
// line on the standard output. Numbers come and go in base64.

import { createInterface } from "node:readline";
import { METHODS } from "../../tokentm_widgets/front/engine/methods.js";
import { fastest, plain } from "../../tokentm_widgets/front/engine/products.js";
import { backward, forward, vitOf } from "../../tokentm_widgets/front/engine/vit.js";

const bytesOf = (text) => {
  const { buffer, byteOffset, length } = Buffer.from(text, "base64");
  return buffer.slice(byteOffset, byteOffset + length);
};
const floats = (text) => new Float32Array(bytesOf(text));
const written = ({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength).toString("base64");
let vit = null;

const ACTS = {
  open({ spec, weights, wasm }) {
    vit = vitOf(spec, new Uint16Array(bytesOf(weights)), wasm ? fastest().product : plain);
    return { without: fastest().without };
  },
  explain({ image, target, methods }) {
    const start = performance.now();
    const pass = forward(vit, floats(image));
    const weights = new Float32Array(vit.spec.classes);
    weights[target] = 1;
    const between = performance.now();
    const gradients = backward(vit, pass, weights);
    const seen = { vit, pass, target: weights, gradients };
    const maps = Object.fromEntries(methods.map((name) => [name, METHODS[name](seen).map(written)]));
    const end = performance.now();
    const { readout } = gradients;
    return { logits: written(pass.logits), readout: written(readout), maps, ms: [between - start, end - between] };
  },
};

createInterface({ input: process.stdin }).on("line", (line) => {
  const asked = JSON.parse(line);
  let answer;
  try {
    answer = ACTS[asked.act](asked);
  } catch (error) {
    answer = { error: error.stack };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
});
