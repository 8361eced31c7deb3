/** When it is time to say again that this user writes. */

import type { ConvId, Millis } from "./types.ts";

/** The server passes on one in 3000 for each conversation; its clock may be a little behind. */
export const TYPING_MS = 3300;

export class Typing {
  #said = new Map<ConvId, Millis>();

  /** True at most once in TYPING_MS. */
  due(c: ConvId, now = Date.now()): boolean {
    const said = this.#said.get(c);
    if (said !== undefined && now >= said && now - said < TYPING_MS) return false;
    this.#said.set(c, now);
    return true;
  }
}
