/**
 * The arithmetic of a list of which only a part exists: heights of blocks, measured or estimated,
 * and where in the whole a block or a position lies. No DOM here.
 */

/** What a block is taken to be high before the first ones were measured. */
const GUESS_PX = 1800;
/** So many measured blocks settle the estimate for all others: a scroll bar should not jitter. */
const SETTLED = 6;
/** Blocks that are summed up together. */
const GROUP = 64;

export class Heights {
  #measured = new Map<number, number>();
  /** Of each GROUP: the measured heights together, and how many they are. */
  #groups = new Map<number, { px: number; n: number }>();
  #estimate = GUESS_PX;
  #samples = 0;
  /** Blocks `[first, last]` are in the list. */
  first: number;
  last: number;

  constructor(first: number, last: number) {
    this.first = first;
    this.last = last;
  }

  of(index: number): number {
    return this.#measured.get(index) ?? this.#estimate;
  }

  /** `whole`: the block has all its sequences, and tells how high others may be. */
  measure(index: number, px: number, whole: boolean): void {
    const known = this.#measured.get(index);
    if (known === px) return;
    this.#measured.set(index, px);
    const group = this.#groups.get(Math.floor(index / GROUP)) ?? { px: 0, n: 0 };
    group.px += px - (known ?? 0);
    if (known === undefined) group.n++;
    this.#groups.set(Math.floor(index / GROUP), group);
    if (known !== undefined || !whole || this.#samples >= SETTLED) return;
    this.#estimate = (this.#estimate * this.#samples + px) / (this.#samples + 1);
    this.#samples++;
  }

  /** Px above a block. */
  above(index: number): number {
    return this.#sum(this.first, index);
  }

  below(index: number): number {
    return this.#sum(index + 1, this.last + 1);
  }

  /** The block at a height, and how far into it (0–1). */
  at(px: number): { index: number; part: number } {
    let rest = Math.max(0, px);
    for (let i = this.first; i < this.last;) {
      const n = this.#step(i, this.last);
      const height = this.#height(i, n);
      if (rest >= height) {
        rest -= height;
        i += n;
        continue;
      }
      if (n === 1) return { index: i, part: rest / height };
      for (; i < this.last && rest >= this.of(i); i++) rest -= this.of(i);
      return { index: i, part: Math.min(1, rest / this.of(i)) };
    }
    return { index: this.last, part: Math.min(1, rest / this.of(this.last)) };
  }

  /** Of `[from, to)`. */
  #sum(from: number, to: number): number {
    let sum = 0;
    for (let i = from; i < to;) {
      const n = this.#step(i, to);
      sum += this.#height(i, n);
      i += n;
    }
    return sum;
  }

  /** How many can be taken at once from `i` on. */
  #step(i: number, to: number): number {
    return i % GROUP === 0 && i + GROUP <= to ? GROUP : 1;
  }

  #height(i: number, n: number): number {
    if (n === 1) return this.of(i);
    const { px, n: known } = this.#groups.get(i / GROUP) ?? { px: 0, n: 0 };
    return px + (GROUP - known) * this.#estimate;
  }
}
