/**
 * The arithmetic of a list of which only a part exists: heights of blocks, measured or estimated,
 * and where in the whole a block or a position lies. No DOM here.
 */

/** What a block is taken to be high before the first ones were measured. */
const GUESS_PX = 3600;
/** So many measured blocks settle the estimate for all others: a scroll bar should not jitter. */
const SETTLED = 3;

export class Heights {
  #measured = new Map<number, number>();
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
    const known = this.#measured.has(index);
    this.#measured.set(index, px);
    if (known || !whole || this.#samples >= SETTLED) return;
    this.#estimate = (this.#estimate * this.#samples + px) / (this.#samples + 1);
    this.#samples++;
  }

  /** Px above a block. */
  above(index: number): number {
    let sum = 0;
    for (let i = this.first; i < index; i++) sum += this.of(i);
    return sum;
  }

  below(index: number): number {
    let sum = 0;
    for (let i = index + 1; i <= this.last; i++) sum += this.of(i);
    return sum;
  }

  /** The block at a height, and how far into it (0–1). */
  at(px: number): { index: number; part: number } {
    let rest = Math.max(0, px);
    for (let i = this.first; i < this.last; i++) {
      const height = this.of(i);
      if (rest < height) return { index: i, part: rest / height };
      rest -= height;
    }
    return { index: this.last, part: Math.min(1, rest / this.of(this.last)) };
  }
}
