// The engine from the side of a page: questions to a worker, and what happens when it is lost. Where a page may not start
// workers, the engine answers in the page itself, which then stands still for a moment.

import { engineOf } from "./engine/answering.js";
import { bytes } from "./numbers.js";

/** @import { LiveData } from "./schema.d.ts" */
/** @typedef {{ message: object, resolve: (answer: any) => void, reject: (error: Error) => void, report: (share: number) => void }} Waiting */
/** @typedef {ReturnType<typeof engineClient>} Engine */

/** Milliseconds without a word from a worker that has a question, after which it counts as lost. */
const SILENT = 120000;

/**
 * @param {LiveData} live
 * @param {number} [silent] milliseconds
 */
export function engineClient(live, silent = SILENT) {
  /** @type {Map<number, Waiting>} */
  const waiting = new Map();
  /** @type {((message: object) => void) & { end?: () => void } | null} */
  let post = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let watch;
  let next = 0;
  /** Whether a worker has ever said a word, and whether the page answers itself because none could be started. */
  let [heardOf, inPage] = [false, false];

  const heard = (/** @type {any} */ { id, answer, error, share }) => {
    const one = waiting.get(id);
    watchAgain();
    if (!one) return;
    if (share !== undefined) return one.report(share);
    waiting.delete(id);
    watchAgain();
    if (error === undefined) one.resolve(answer);
    else one.reject(new Error(error));
  };
  const watchAgain = () => {
    clearTimeout(watch);
    watch = waiting.size && !inPage ? setTimeout(() => lost("it has not answered for a while"), silent) : undefined;
  };

  /** The worker is gone: whoever waits hears of it, and the next question starts another one. @param {string} why */
  const lost = (why) => end(`The part of this page that computes was lost (${why}). Choose again to start it anew.`);

  /** @param {string} why */
  function end(why) {
    post?.end?.();
    post = null;
    opened = null;
    const all = [...waiting.values()];
    waiting.clear();
    watchAgain();
    for (const one of all) one.reject(new Error(why));
  }

  function start() {
    if (post) return post;
    if (!inPage) {
      try {
        post = startWorker();
        return post;
      } catch {
        inPage = true;
      }
    }
    const engine = engineOf();
    post = (/** @type {any} */ { id, act, given }) =>
      setTimeout(() => {
        try {
          heard({ id, answer: engine(act, given, () => {}) });
        } catch (error) {
          heard({ id, error: error instanceof Error ? error.message : String(error) });
        }
      });
    return post;
  }

  function startWorker() {
    const url = URL.createObjectURL(new Blob([live.code], { type: "text/javascript" }));
    const worker = new Worker(url);
    worker.onmessage = ({ data }) => {
      heardOf = true;
      heard(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      if (heardOf) lost(event.message || "it ended");
      else withoutWorker();
    };
    return Object.assign((/** @type {object} */ message) => worker.postMessage(message), {
      end() {
        worker.terminate();
        URL.revokeObjectURL(url);
      },
    });
  }

  /** A page may be forbidden to start workers, which shows only when one is started: the page answers itself. */
  function withoutWorker() {
    post?.end?.();
    post = null;
    inPage = true;
    for (const { message } of waiting.values()) start()(message);
    watchAgain();
  }

  /**
   * @param {string} act
   * @param {object} given
   * @param {(share: number) => void} [report]
   * @returns {Promise<any>}
   */
  const put = (act, given, report = () => {}) =>
    new Promise((resolve, reject) => {
      next += 1;
      const id = next;
      const message = { id, act, given };
      waiting.set(id, { message, resolve, reject, report });
      try {
        start()(message);
        watchAgain();
      } catch (error) {
        waiting.delete(id);
        reject(error);
      }
    });

  /** @type {Promise<{ without: string, methods: string[] }> | null} */
  let opened = null;
  const open = () => {
    if (!opened) {
      const weights = new Uint16Array(bytes(live.weights).slice().buffer);
      opened = put("open", { spec: live.spec, weights });
      opened.catch(() => {
        opened = null; // the next question tries again
      });
    }
    return opened;
  };
  return {
    /** Loads the model: what it cannot do fast (`without` says why), and which methods it computes. */
    open,
    /** Whether it answers in the page itself. */
    inPage: () => inPage,
    /**
     * @param {string} act see engine/answering.js
     * @param {object} given
     * @param {(share: number) => void} [report]
     * @returns {Promise<any>}
     */
    async ask(act, given, report) {
      await open();
      return put(act, given, report);
    },
    /** Whoever waits is told that it was stopped; the next question starts another worker. */
    stop: () => end("Stopped. What is on the screen is what was there before."),
    close() {
      clearTimeout(watch);
      post?.end?.();
      post = null;
    },
  };
}

/**
 * Asks about what changes faster than it is answered: while one question is under way, only the newest one waits.
 * @template G
 * @param {(given: G) => Promise<void>} ask which tells of errors itself; one that it does not is no reason to stop
 */
export function newest(ask) {
  let busy = false;
  /** @type {{ given: G } | null} */
  let next = null;
  function go() {
    if (busy || !next) return;
    busy = true;
    const { given } = next;
    next = null;
    ask(given)
      .catch(console.error)
      .finally(() => {
        busy = false;
        go();
      });
  }
  return (/** @type {G} */ given) => {
    next = { given };
    go();
  };
}
