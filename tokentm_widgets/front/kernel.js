// Questions to the kernel: it takes one up by being busy, or is said not to answer.

/** @import { Model } from "./types.d.ts" */

/** Milliseconds after which a choice that nobody took up is called unanswered. */
const ASK = 3000;

/** What is said while nobody has taken up a question, and when nobody has for long. */
const WORDS = {
  kernel: [
    "Asking the kernel …",
    "The kernel does not answer: it is busy with another cell, or closed. What is on the screen is the last answer.",
  ],
  page: ["Computing …", "Still computing. What is on the screen is the last answer."],
};

/**
 * @param {Model} model
 * @param {() => void} repaint
 * @param {boolean} inPage whether the page itself answers
 */
export function questions(model, repaint, inPage = false) {
  const [asking, late] = WORDS[inPage ? "page" : "kernel"];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let waiting;
  const state = {
    said: "",
    waiting: () => waiting !== undefined,
    settle() {
      clearTimeout(waiting);
      waiting = undefined;
      state.said = "";
    },
    expect() {
      state.settle();
      state.said = asking;
      waiting = setTimeout(() => {
        waiting = undefined;
        state.said = late;
        repaint();
      }, ASK);
      repaint();
    },
    /** @param {string} text */
    say(text) {
      state.said = text;
      repaint();
    },
    close() {
      clearTimeout(waiting);
      model.off("change:busy", state.settle);
    },
  };
  model.on("change:busy", state.settle);
  return state;
}
