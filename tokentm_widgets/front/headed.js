// The first lines of a widget: what is seen, with the explained name in colour, the answers to choose from, and a
// sentence or two about it.

import { chooser } from "./controls.js";
import { element, write } from "./dom.js";
import { named, range } from "./numbers.js";

/** @import { Tools } from "./types.d.ts" */

/** How many answers are offered beside each other; more are a list. */
const BESIDE = 3;

/**
 * The answers among which a view chooses, or the one that there is.
 * @param {{ names: string[], probabilities: number[] | null, answers: number[] }} data
 * @param {string} label
 * @param {Pick<Tools, "model" | "choose" | "follow">} tools
 */
export function answersOf(data, label, tools) {
  const answers = data.names.map((_, i) => named(data, i));
  return answers.length > 1
    ? chooser("index", label, answers, range(answers.length), tools, BESIDE)
    : element("span", { class: "answered" }, answers[0]);
}

/** What answers differ in. @param {{ pictures: string[] }} data */
export const choiceOf = ({ pictures }) => (pictures.length > 1 ? "Image" : "Class");

/**
 * A title of three parts, the middle one in the colour of what is explained; written where it has changed.
 * @param {HTMLElement} title
 * @param {[before: string, explained: string, after: string]} parts
 */
export function writeTitle(title, [before, explained, after]) {
  if (title.textContent === before + explained + after) return;
  title.replaceChildren(before, element("span", { class: "explained" }, explained), after);
}

/**
 * @param {HTMLElement | ""} choice the answers, where there is something to choose
 */
export function headed(choice = "") {
  const [title, story] = [element("h2"), element("p", { class: "story" })];
  return {
    node: element("div", { class: "headed" }, element("div", { class: "titled" }, title, choice), story),
    /**
     * @param {[before: string, explained: string, after: string]} parts
     * @param {string[]} sentences
     */
    write(parts, sentences) {
      writeTitle(title, parts);
      write(story, sentences.filter(Boolean).join(" "));
    },
  };
}
