// The words of the field that a widget uses, for somebody who meets them here.

import { element } from "./dom.js";

const WORDS = [
  ["patch", "one of the squares into which the model cuts the picture"],
  ["token", "the list of numbers that stands for a patch inside the model; each layer changes it"],
  ["class token", "one more token, which belongs to no patch: from it the model reads its answer"],
  ["layer", "one round in which every token is changed and takes from the others"],
  ["head", "one of several ways, side by side in a layer, in which tokens take from each other"],
  ["attention", "how much a token takes from each other token"],
  ["length, direction", "of a token as an arrow: how much it counts, and what it says"],
  ["gradient", "how the answer would change if a number grew a little"],
];

export const glossary = () =>
  element(
    "details",
    {},
    element("summary", {}, "Words used here"),
    element(
      "dl",
      { class: "glossary" },
      ...WORDS.flatMap(([word, means]) => [element("dt", {}, word), element("dd", {}, means)]),
    ),
  );
