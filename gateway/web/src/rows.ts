/** The rows of a list of messages: which one is pointed at, has the focus, or is led to; its keys. */

import type { Seq } from "../sdk/index.ts";
import { Observed } from "./observe.ts";
import type { Deed } from "./tools.tsx";

const FLASH_MS = 1600;
/** So long after the list moved last, what is under the pointer counts. */
const REST_MS = 120;

export class Rows extends Observed {
  /** Its tools are shown. */
  active: Seq | null = null;
  /** The one that Tab reaches; null: nobody chose one. */
  focus: Seq | null = null;
  /** Somebody was led to it a moment ago. */
  flash: Seq | null = null;
  /** What can be done to a message now. */
  deeds: (s: Seq) => Deed[] = () => [];
  #list: () => HTMLElement | null;
  /** The row under the pointer. */
  #over: Seq | null = null;
  #restTimer: ReturnType<typeof setTimeout> | undefined;
  #flashTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(list: () => HTMLElement | null) {
    super();
    this.#list = list;
  }

  close(): void {
    clearTimeout(this.#restTimer);
    clearTimeout(this.#flashTimer);
  }

  row(s: Seq): HTMLElement | null {
    return this.#list()?.querySelector<HTMLElement>(`[data-s="${s}"]`) ?? null;
  }

  /** Shows where somebody is led to. */
  point(s: Seq): void {
    this.flash = this.focus = s;
    clearTimeout(this.#flashTimer);
    this.#flashTimer = setTimeout(() => {
      this.flash = null;
      this.changed();
    }, FLASH_MS);
    this.changed();
  }

  /** The list was scrolled. Rows that only pass below the pointer are not drawn for it. */
  moved(): void {
    clearTimeout(this.#restTimer);
    this.#restTimer = setTimeout(this.#rest, REST_MS);
  }

  /** For the list. */
  get handlers() {
    return {
      onKeyDown: this.onKey,
      onMouseOver: this.#onOver,
      onMouseLeave: this.#onOut,
      onFocusIn: this.#onFocus,
      onClick: this.#onOver,
    };
  }

  onKey = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const row = articleOf(event);
    if (!row || row !== event.target) return;
    if (event.key === "ArrowUp" || event.key === "ArrowDown") {
      this.#focusNext(row, event.key === "ArrowUp");
    } else {
      const deed = this.deeds(seqOf(row)).find(({ key }) => key === event.key);
      if (!deed) return;
      deed.run(row);
    }
    event.preventDefault();
  };

  #focusNext(row: HTMLElement, up: boolean): void {
    const rows = [...this.#list()!.querySelectorAll<HTMLElement>("[role=article]")];
    const next = rows[rows.indexOf(row) + (up ? -1 : 1)];
    next?.focus({ preventScroll: true });
    next?.scrollIntoView({ block: "nearest" });
  }

  #onOver = (event: Event): void => {
    const row = (event.target as HTMLElement).closest<HTMLElement>("[data-s]");
    this.#over = row && seqOf(row);
    if (this.#restTimer === undefined || event.type === "click") this.#rest();
  };

  #onOut = (): void => {
    this.#over = null;
    this.#rest();
  };

  #rest = (): void => {
    clearTimeout(this.#restTimer);
    this.#restTimer = undefined;
    if (this.#over === this.active) return;
    this.active = this.#over;
    this.changed();
  };

  #onFocus = (event: Event): void => {
    const row = articleOf(event);
    if (!row) return;
    this.focus = this.active = seqOf(row);
    this.changed();
  };
}

const articleOf = (event: Event): HTMLElement | null =>
  (event.target as HTMLElement).closest<HTMLElement>("[role=article]");
const seqOf = (row: HTMLElement): Seq => Number(row.dataset["s"]);
