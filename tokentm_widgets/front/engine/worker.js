// The engine in a thread of its own: each question is a message {id, act, given}; its answer is {id, answer} or
// {id, error}, and meanwhile {id, share}.

import { engineOf } from "./answering.js";

/** @param {{ onmessage: any, postMessage: (message: unknown, transfer?: Transferable[]) => void }} scope */
function serve(scope) {
  const engine = engineOf();
  scope.onmessage = (/** @type {MessageEvent} */ { data: { id, act, given } }) => {
    try {
      const answer = engine(act, given, (share) => scope.postMessage({ id, share }));
      scope.postMessage({ id, answer });
    } catch (error) {
      scope.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
    }
  };
}

export default serve;
