/** Whether somebody is at this page: it is in sight, and was used a while ago at most. */

const IDLE_MS = 5 * 60_000;
const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"] as const;

export class Idle {
  #tell: (away: boolean) => void;
  #away = false;
  #used = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(tell: (away: boolean) => void) {
    this.#tell = tell;
  }

  start(): void {
    for (const sign of SIGNS)
      addEventListener(sign, this.#sign, { passive: true, capture: true });
    document.addEventListener("visibilitychange", this.#sign);
    this.#sign();
  }

  stop(): void {
    clearTimeout(this.#timer);
    for (const sign of SIGNS) removeEventListener(sign, this.#sign, { capture: true });
    document.removeEventListener("visibilitychange", this.#sign);
  }

  #sign = (): void => {
    this.#used = Date.now();
    this.#timer ??= setTimeout(this.#late, IDLE_MS);
    this.#set(document.visibilityState === "hidden");
  };

  #late = (): void => {
    const left = this.#used + IDLE_MS - Date.now();
    this.#timer = left > 0 ? setTimeout(this.#late, left) : undefined;
    if (left <= 0) this.#set(true);
  };

  #set(away: boolean): void {
    if (away === this.#away) return;
    this.#away = away;
    this.#tell(away);
  }
}
