/** A timer for what ends at known times: `run` does what is due and says when the next one is. */

const TIMER_MAX_MS = 0x7fffffff;

export class Expiry {
  #next = Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #run: (now: number) => number;
  #skew: () => number;

  /** `skew`: server time less ours; all other times here are the server's. */
  constructor(skew: () => number, run: (now: number) => number) {
    this.#skew = skew;
    this.#run = run;
  }

  /** Something ends then; undefined: never. */
  at(time: number | undefined): void {
    if (this.#closed || time === undefined || time >= this.#next) return;
    this.#next = time;
    clearTimeout(this.#timer);
    const wait = Math.max(0, time - Date.now() - this.#skew()) + 1;
    this.#timer = setTimeout(
      () => {
        this.#next = Infinity;
        const next = this.#run(Date.now() + this.#skew());
        if (next < Infinity) this.at(next);
      },
      Math.min(wait, TIMER_MAX_MS),
    );
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }
}
