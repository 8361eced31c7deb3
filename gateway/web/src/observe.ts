/** State that components watch: `changed` draws those again that `useObserved` it. */

import { useEffect, useReducer } from "preact/hooks";

export class Observed {
  #watchers = new Set<() => void>();

  watch(fn: () => void): () => void {
    this.#watchers.add(fn);
    return () => this.#watchers.delete(fn);
  }

  changed(): void {
    for (const fn of [...this.#watchers]) fn();
  }
}

export function useObserved<T extends Observed>(state: T): T {
  const [, draw] = useReducer<number, void>((count) => count + 1, 0);
  useEffect(() => {
    draw(); // it may have changed before this effect ran
    return state.watch(draw);
  }, [state]);
  return state;
}
