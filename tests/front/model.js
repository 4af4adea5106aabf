// A model as a front end sees it, for tests.

export function modelOf(state) {
  const listeners = {};
  return {
    saved: [],
    listeners,
    get: (name) => state[name],
    set(name, value) {
      if (state[name] === value) return;
      state[name] = value;
      for (const listener of [...(listeners[`change:${name}`] ?? [])]) listener();
    },
    save_changes() {
      this.saved.push({ ...state });
    },
    on(event, listener) {
      listeners[event] ??= [];
      listeners[event].push(listener);
    },
    off(event, listener) {
      listeners[event] = (listeners[event] ?? []).filter((one) => one !== listener);
    },
  };
}

/** Timers that a test moves on by itself, until it ends; gives the function that does. */
export function clockOf(test) {
  const names = ["setTimeout", "setInterval", "clearTimeout", "clearInterval"];
  const real = Object.fromEntries(names.map((name) => [name, globalThis[name]]));
  const [due, clear] = [new Map(), (id) => due.delete(id)];
  let [now, last] = [0, 0];
  const wait = (again) => (call, time) => {
    last += 1;
    due.set(last, { at: now + time, call, every: again ? time : 0 });
    return last;
  };
  Object.assign(globalThis, { setTimeout: wait(false), setInterval: wait(true) });
  Object.assign(globalThis, { clearTimeout: clear, clearInterval: clear });
  test.after(() => Object.assign(globalThis, real));
  return (time) => {
    const end = now + time;
    for (;;) {
      const [next] = [...due].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at);
      if (!next) break;
      const [id, { at, call, every }] = next;
      now = at;
      if (every) due.set(id, { at: at + every, call, every });
      else due.delete(id);
      call();
    }
    now = end;
  };
}
