// What the modules of the live engine hand to each other. Matrices are row-major.

export type Numbers = Float32Array<ArrayBuffer>;

/** A (m, k) times B (k, n) -> C (m, n). */
export type Product = (a: Numbers, b: Numbers, m: number, k: number, n: number) => Numbers;

/** How rows are normalised. */
export interface NormSpec {
  kind: "layer" | "rms";
  eps: number;
}

export type Activation = "gelu" | "gelu_tanh" | "quick_gelu" | "relu" | "silu";

/** One block: what it has, beside its weights. */
export interface BlockSpec {
  norm1: NormSpec;
  norm2: NormSpec;
  qNorm: NormSpec | null;
  kNorm: NormSpec | null;
  heads: number;
  headDim: number;
  activation: Activation;
  /** "first" or "last": which half of the FFN's hidden numbers is the gate; "" where there is none. */
  gate: "" | "first" | "last";
}

/** A model that the engine runs; see live_model.py, which makes it. */
export interface Spec {
  channels: number;
  height: number;
  width: number;
  patch: [height: number, width: number];
  prefix: number;
  dim: number;
  classes: number;
  pooling: "token" | "tokens" | "patches" | "all";
  /** Which tokens have a position of their own. */
  positions: "none" | "patches" | "all";
  normPre: NormSpec | null;
  norm: NormSpec | null;
  normPooled: NormSpec | null;
  blocks: BlockSpec[];
  /** Where each tensor begins among all numbers, and its shape. */
  weights: Record<string, [first: number, shape: number[]]>;
}

/** A linear map: its weight (out, in) as it is trained, the same transposed (in, out), and its bias. */
export interface Linear {
  weight: Numbers;
  transposed: Numbers;
  bias: Numbers | null;
  out: number;
  from: number;
}

export interface Norm extends NormSpec {
  weight: Numbers | null;
  bias: Numbers | null;
}

export interface Block extends BlockSpec {
  norms: { norm1: Norm; norm2: Norm; q: Norm | null; k: Norm | null };
  qkv: Linear;
  out: Linear;
  scale1: Numbers | null;
  fc1: Linear;
  fc2: Linear;
  scale2: Numbers | null;
}

/** What one block did: N tokens of width D, H heads of width d. */
export interface LayerPass {
  /** x, (N, D). */
  stream: Numbers;
  /** x', (N, D). */
  middle: Numbers;
  /** x'', (N, D). */
  streamOut: Numbers;
  /** Of each head, as attention takes them: q times the scale (N, d), k (N, d), v (N, d). */
  q: Numbers[];
  k: Numbers[];
  v: Numbers[];
  /** The same before they were normalised, where they are. */
  rawQ: Numbers[];
  rawK: Numbers[];
  /** Attention of each head, (N, N). */
  attention: Numbers[];
  /** What the FFN's first map put out, (N, hidden), and what its second one took. */
  hidden: Numbers;
  /** What the FFN adds, (N, D). */
  ffn: Numbers;
}

/** A forward pass over one image. */
export interface Pass {
  tokens: number;
  layers: LayerPass[];
  /** The last stream (N, D), and the same normalised: what is pooled. */
  last: Numbers;
  final: Numbers;
  pooled: Numbers[];
  logits: Numbers;
  image: Numbers;
}

/** A backward pass from a mixture of logits. */
export interface Gradients {
  /** Share of each final token in what the score reads, (N). */
  readout: Numbers;
  /** Of each layer: of its attention by head (N, N), and of what it puts out (N, D). */
  layers: { attention: Numbers[]; streamOut: Numbers }[];
}
