// What patches take through single heads: in an exported page all is there; otherwise the kernel is asked, once each.

import { codedRows } from "./numbers.js";

/** @import { Held } from "./layer_rows.js" */
/** @import { LayerStepperData } from "./schema.d.ts" */
/** @import { Model } from "./types.d.ts" */

/** Milliseconds after which an unanswered question is called unanswered. */
const ASK = 3000;

/** Data as sent -> answers by head and index, shared by the views of one widget. @type {WeakMap<object, Record<string, Held>>} */
const answers = new WeakMap();

/**
 * @param {Model} model
 * @param {Pick<LayerStepperData, "held">} data
 * @param {() => void} changed
 */
export function headsOf(model, data, changed) {
  const shared = answers.get(model.get("_data")) ?? {};
  answers.set(model.get("_data"), shared);
  /** @type {Record<string, boolean>} */
  const late = {};
  const key = (/** @type {number | null} */ head, /** @type {number} */ index) => `${head} ${index}`;

  /**
   * @param {{ kind: string, head: number, index: number } | undefined} message
   * @param {DataView[]} buffers
   */
  function listen(message, buffers) {
    if (message?.kind !== "head") return;
    const [codes, low, high, updateCodes, updateLow, updateHigh] = buffers;
    shared[key(message.head, message.index)] = {
      attention: codedRows({ codes, low, high }),
      update: codedRows({ codes: updateCodes, low: updateLow, high: updateHigh }),
    };
    changed();
  }

  /**
   * @param {number} head
   * @param {number} index
   */
  function ask(head, index) {
    const at = key(head, index);
    late[at] = false;
    try {
      model.send({ kind: "head", head, index });
      setTimeout(() => {
        late[at] = !shared[at];
        changed();
      }, ASK);
    } catch {
      late[at] = true; // JupyterLab throws where the kernel was shut down
    }
  }

  model.on("msg:custom", listen);
  return {
    /**
     * @param {number | null} head
     * @param {number} index
     * @returns {Held | undefined}
     */
    get(head, index) {
      const at = key(head, index);
      if (head === null || shared[at]) return shared[at];
      const sent = data.held?.[at];
      if (sent) shared[at] = { attention: codedRows(sent.attention), update: codedRows(sent.update) };
      else if (!(at in late)) ask(head, index);
      return shared[at];
    },
    /**
     * @param {number | null} head
     * @param {number} index
     */
    late: (head, index) => late[key(head, index)] && !shared[key(head, index)],
    close: () => model.off("msg:custom", listen),
  };
}
