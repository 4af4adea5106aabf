// Assembles front/engine/matmul.wat and writes it as front/engine/matmul.js: node assemble.js

import { readFile, writeFile } from "node:fs/promises";
import wabt from "wabt";

const FOLDER = new URL("../../tokentm_widgets/front/engine/", import.meta.url);
const WIDTH = 110;

/** The text of matmul.js as it must be. */
export async function assembled() {
  const source = await readFile(new URL("matmul.wat", FOLDER), "utf8");
  const module = (await wabt()).parseWat("matmul.wat", source, { simd: true });
  module.validate();
  const { buffer } = module.toBinary({});
  const lines =
    Buffer.from(buffer)
      .toString("base64")
      .match(new RegExp(`.{1,${WIDTH}}`, "g")) ?? [];
  const text = lines.map((line) => `  "${line}"`).join(",\n");
  return `// matmul.wat, assembled by tests/front/assemble.js and written in base64.\n\nexport const MATMUL = [\n${text},\n].join("");\n`;
}

export const FILE = new URL("matmul.js", FOLDER);

if (process.argv[1] === new URL(import.meta.url).pathname) await writeFile(FILE, await assembled());
