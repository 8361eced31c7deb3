/**
 * The messages of one conversation. Only blocks near the window are in the DOM; spacers above and
 * below stand for the rest, so the scroll bar spans the whole history. What is being looked at
 * stays where it is, whatever is loaded, measured, edited or dropped above it.
 */

import { Component, createRef } from "preact";
import { isHole, isMessage, type Conv, type Rec, type Seq } from "../sdk/index.ts";
import { BlockView, lastShown } from "./block.tsx";
import { Icon } from "./parts.tsx";
import { Pending } from "./pending.tsx";
import { Rows } from "./rows.ts";
import type { Store } from "./store.ts";
import { BLOCK, blockOf, firstOf, seqOf, type Timeline } from "./timeline.ts";
import { deedsOf, type RowActions } from "./tools.tsx";
import { Heights } from "./window.ts";
import { count, dayOf } from "./words.ts";

/** Rendered beyond each edge of the window, px. */
const OVERSCAN = 800;
/** Blocks loaded ahead of each edge of what is rendered. */
const AHEAD = 4;
/** Browsers stop at 17 to 33 million px: a longer history is shown in spans of so many blocks. */
const SPAN_BLOCKS = 6400;
const END_PX = 8;
/** Changes of what is rendered in one frame, most. */
const ROUNDS_MAX = 8;
const DATE_MS = 1200;

interface Props {
  store: Store;
  conv: Conv;
  timeline: Timeline;
  actions: RowActions;
  /** Holds this list while it is there. (Preact 11 gives the `ref` of a component as a prop.) */
  list: { current: Messages | null };
}

interface State {
  from: number;
  to: number;
  atEnd: boolean;
  /** Somebody scrolls. */
  moving: boolean;
}

/** The row that stays in its place: so many px below the upper edge. */
interface Anchor {
  s: Seq;
  top: number;
}

export class Messages extends Component<Props, State> {
  override state: State;
  #scroller = createRef<HTMLDivElement>();
  #heights: Heights;
  #anchor: Anchor | null = null;
  /** scrollTop when the anchor was true. */
  #top = 0;
  /** Changes of what is rendered since the last frame. */
  #rounds = 0;
  #stick = true;
  #firstNew: Seq | null = null;
  /** The message that takes the focus when it is there. */
  #focusing: Seq | null = null;
  #unwatch: (() => void)[] = [];
  #resize: ResizeObserver | null = null;
  #dateTimer: ReturnType<typeof setTimeout> | undefined;
  #rows = new Rows(() => this.#scroller.current);

  constructor(props: Props) {
    super(props);
    const { timeline, conv } = props;
    const last = blockOf(Math.max(1, timeline.head));
    this.#heights = new Heights(
      Math.max(blockOf(timeline.floor), last - SPAN_BLOCKS + 1),
      last,
    );
    if (conv.unread > 0 && conv.read < timeline.head) {
      this.#firstNew = conv.read + 1;
      this.#anchor = { s: conv.read + 1, top: 120 };
      this.#stick = false;
    }
    const at = this.#anchor ? Math.max(blockOf(this.#anchor.s), this.#heights.first) : last;
    this.#rows.deeds = (s) => {
      const rec = this.props.timeline.message(s);
      const { actions, store, conv } = this.props;
      return rec ? deedsOf(rec, conv, store.me, actions) : [];
    };
    this.state = {
      from: Math.max(at - 1, this.#heights.first),
      to: Math.min(at + 1, last),
      atEnd: this.#stick,
      moving: false,
    };
  }

  override componentDidMount(): void {
    const { timeline, list } = this.props;
    list.current = this;
    this.#unwatch = [
      timeline.watch(() => this.#onTimeline()),
      this.#rows.watch(() => this.forceUpdate()),
    ];
    this.#resize = new ResizeObserver(() => this.#settle());
    this.#resize.observe(this.#scroller.current!);
    addEventListener("focus", this.#markRead);
    document.addEventListener("visibilitychange", this.#markRead);
    this.#want();
    this.#settle();
  }

  override componentDidUpdate(): void {
    this.#settle();
  }

  override componentWillUnmount(): void {
    this.props.list.current = null;
    for (const off of this.#unwatch) off();
    this.#resize?.disconnect();
    removeEventListener("focus", this.#markRead);
    document.removeEventListener("visibilitychange", this.#markRead);
    clearTimeout(this.#dateTimer);
    this.#rows.close();
  }

  // ---- what is shown -------------------------------------------------------------------------

  #onTimeline(): void {
    const { timeline } = this.props;
    const last = blockOf(Math.max(1, timeline.head));
    const heights = this.#heights;
    heights.first = Math.max(heights.first, Math.min(blockOf(timeline.floor), last));
    if (last > heights.last && heights.last - heights.first + 1 < SPAN_BLOCKS + 128)
      heights.last = last;
    if (!this.#present()) this.#firstNew ??= this.#firstUnseen();
    if (this.#stick) this.#show(heights.last - 1, heights.last);
    this.#want();
    this.forceUpdate();
  }

  /** Somebody looks at this page. */
  #present(): boolean {
    return document.visibilityState === "visible" && document.hasFocus();
  }

  #firstUnseen(): Seq | null {
    const { conv } = this.props;
    return conv.unread > 0 ? conv.read + 1 : null;
  }

  #show(from: number, to: number): void {
    const { first, last } = this.#heights;
    const next = { from: Math.max(first, from), to: Math.min(last, to) };
    if (next.from === this.state.from && next.to === this.state.to) return;
    this.setState(next);
  }

  /** As `#show`; when measuring leads on and on, the next frame goes on with it. */
  #showSoon(from: number, to: number): void {
    if (this.#rounds === 0)
      requestAnimationFrame(() => {
        const over = this.#rounds > ROUNDS_MAX;
        this.#rounds = 0;
        if (over) this.#settle();
      });
    if (++this.#rounds > ROUNDS_MAX) return;
    this.#show(from, to);
    queueMicrotask(() => this.#want());
  }

  /** Asks for what is rendered, then for its neighbours; the middle first. */
  #want(): void {
    const { from, to } = this.state;
    const middle = this.#anchor ? blockOf(this.#anchor.s) : to;
    const wanted: number[] = [];
    for (let i = from - AHEAD; i <= to + AHEAD; i++) {
      if (i >= this.#heights.first && i <= this.#heights.last) wanted.push(i);
    }
    const near = (i: number): number =>
      Math.abs(i - middle) + (i >= from && i <= to ? 0 : AHEAD * 4);
    this.props.timeline.want(wanted.sort((a, b) => near(a) - near(b)));
  }

  // ---- keeping the place ---------------------------------------------------------------------

  /** After each change of the DOM, before it is painted: measures, puts back what is looked at. */
  #settle(): void {
    const scroller = this.#scroller.current;
    if (!scroller) return;
    const { timeline } = this.props;
    const blocks = [...scroller.querySelectorAll<HTMLElement>(".block")];
    for (const element of blocks) {
      const index = Number(element.dataset["block"]);
      if (timeline.block(index)?.state !== "ready") continue;
      const whole = firstOf(index + 1) <= timeline.head && firstOf(index) >= timeline.floor;
      this.#heights.measure(index, element.getBoundingClientRect().height, whole);
    }
    this.#fit(scroller, blocks);
    if (this.#stick && this.#left(scroller)) {
      this.#stick = false;
      this.#hold(scroller);
      this.#top = scroller.scrollTop;
    }
    if (this.#stick) scroller.scrollTop = scroller.scrollHeight;
    else this.#restore(scroller);
    this.#afterMove(scroller);
    const wanted = this.#focusing === null ? null : this.#rows.row(this.#focusing);
    if (!wanted) return;
    this.#focusing = null;
    wanted.focus({ preventScroll: true });
  }

  /** Somebody has just scrolled away from the end, and the event of it is still to come. */
  #left(scroller: HTMLElement): boolean {
    const rest = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    return scroller.scrollTop < this.#top - 1 && rest > END_PX;
  }

  /** What stands for something else is as high as the heights say, without another rendering. */
  #fit(scroller: HTMLElement, blocks: HTMLElement[]): void {
    const { from, to } = this.state;
    const above = scroller.querySelector<HTMLElement>(".above")!;
    const below = scroller.querySelector<HTMLElement>(".below")!;
    above.style.height = `${this.#heights.above(from)}px`;
    below.style.height = `${this.#heights.below(to)}px`;
    for (const element of blocks) {
      const index = Number(element.dataset["block"]);
      if (this.props.timeline.block(index)?.state === "ready") element.style.height = "";
      else element.style.height = `${this.#heights.of(index)}px`;
    }
  }

  #restore(scroller: HTMLElement): void {
    const anchor = this.#anchor;
    if (!anchor) return;
    // Scrolled meanwhile, and the event has not come yet: the anchor moves along. (At the very end
    // it was the browser, because the list became shorter.)
    const clamped = scroller.scrollTop + scroller.clientHeight >= scroller.scrollHeight - 1;
    if (!clamped) anchor.top -= scroller.scrollTop - this.#top;
    const top = this.#topOf(scroller, anchor.s);
    if (top === null) return;
    const off = top - anchor.top;
    if (Math.abs(off) >= 1) scroller.scrollTop += off;
  }

  /** Where a sequence is, px below the upper edge; by estimate where its row is not rendered. */
  #topOf(scroller: HTMLElement, s: Seq): number | null {
    const edge = scroller.getBoundingClientRect().top;
    const index = blockOf(s);
    const block = this.props.timeline.block(index);
    if (block?.state === "ready" && index >= this.state.from && index <= this.state.to) {
      const shown = block.items.find(
        (item) => seqOf(item) >= s && this.#rows.row(seqOf(item)) !== null,
      );
      const row = shown ? this.#rows.row(seqOf(shown)) : null;
      if (row) return row.getBoundingClientRect().top - edge;
    }
    if (index < this.#heights.first || index > this.#heights.last) return null;
    const part = (s - firstOf(index)) / BLOCK;
    return this.#heights.above(index) + part * this.#heights.of(index) - scroller.scrollTop;
  }

  /** Takes what is at the upper edge for the anchor. */
  #hold(scroller: HTMLElement): void {
    const edge = scroller.getBoundingClientRect().top;
    for (const block of scroller.querySelectorAll<HTMLElement>(".block")) {
      const box = block.getBoundingClientRect();
      if (box.bottom <= edge) continue;
      if (box.top >= edge + scroller.clientHeight) break; // of where it was before
      const rows = block.querySelectorAll<HTMLElement>("[data-s]");
      let low = 0;
      let high = rows.length; // the first row that ends below the edge
      while (low < high) {
        const middle = (low + high) >> 1;
        if (rows[middle]!.getBoundingClientRect().bottom > edge) high = middle;
        else low = middle + 1;
      }
      const row = rows[low];
      if (!row && rows.length > 0) continue;
      if (row) {
        this.#anchor = {
          s: Number(row.dataset["s"]),
          top: row.getBoundingClientRect().top - edge,
        };
        return;
      }
      break;
    }
    const { index, part } = this.#heights.at(scroller.scrollTop);
    const s = firstOf(index) + Math.min(BLOCK - 1, Math.floor(part * BLOCK));
    this.#anchor = { s, top: 0 };
    this.#anchor.top = this.#topOf(scroller, s) ?? 0;
  }

  #afterMove(scroller: HTMLElement): void {
    const heights = this.#heights;
    const end = this.#atEnd(scroller);
    this.#top = scroller.scrollTop;
    const from = heights.at(scroller.scrollTop - OVERSCAN).index;
    const to = heights.at(scroller.scrollTop + scroller.clientHeight + OVERSCAN).index;
    if (from !== this.state.from || to !== this.state.to) this.#showSoon(from, to);
    if (end !== this.state.atEnd) this.setState({ atEnd: end });
    this.#markRead();
  }

  #atEnd(scroller: HTMLElement): boolean {
    const rest = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    return rest <= END_PX && this.state.to === blockOf(Math.max(1, this.props.timeline.head));
  }

  #onScroll = (): void => {
    const scroller = this.#scroller.current!;
    if (Math.abs(scroller.scrollTop - this.#top) < 1) return; // this was #settle
    this.#stick = this.#atEnd(scroller);
    this.#focusing = null;
    this.#hold(scroller);
    this.#afterMove(scroller);
    this.#showDate();
    this.#rows.moved();
  };

  /** While somebody scrolls, the day is shown. */
  #showDate(): void {
    if (!this.state.moving) this.setState({ moving: true });
    clearTimeout(this.#dateTimer);
    this.#dateTimer = setTimeout(() => this.setState({ moving: false }), DATE_MS);
  }

  #date(): string | null {
    const item = this.#anchor && this.props.timeline.find(this.#anchor.s);
    return item && !isHole(item) && this.state.moving && !this.state.atEnd
      ? dayOf(item.ts)
      : null;
  }

  // ---- marks ---------------------------------------------------------------------------------

  #markRead = (): void => {
    const scroller = this.#scroller.current;
    const { store, conv } = this.props;
    if (!scroller || !this.#present() || conv.read >= conv.head) return;
    const seen = this.#lastSeen(scroller.getBoundingClientRect().bottom);
    if (!seen) return;
    // At the end everything is read, also changes that have no row of their own.
    if (this.#atEnd(scroller)) store.read(conv.c, conv.head, conv.n);
    else if (seen.s > conv.read) store.read(conv.c, seen.s, seen.n);
  };

  /** The last unread record whose row begins above an edge. */
  #lastSeen(edge: number): Rec | null {
    const { conv, timeline } = this.props;
    let seen: Rec | null = null;
    for (let index = this.state.from; index <= this.state.to; index++) {
      const block = timeline.block(index);
      if (block?.state !== "ready") continue;
      for (const item of block.items) {
        if (isHole(item) || item.s <= conv.read) continue;
        const row = this.#rows.row(item.s);
        if (row && row.getBoundingClientRect().top > edge - 8) return seen;
        seen = item;
      }
    }
    return seen;
  }

  // ---- moving about --------------------------------------------------------------------------

  toEnd = (): void => {
    const last = blockOf(Math.max(1, this.props.timeline.head));
    const heights = this.#heights;
    if (heights.last < last)
      this.#heights = new Heights(Math.max(heights.first, last - SPAN_BLOCKS + 1), last);
    this.#stick = true;
    this.#anchor = null;
    this.#firstNew = null;
    this.#focusing = null;
    this.#show(last - 1, last);
    this.setState({ atEnd: true }, () => this.#want());
  };

  jump = (s: Seq, focus = false): void => {
    const index = blockOf(s);
    if (index < this.#heights.first || index > this.#heights.last) this.#moveSpan(index);
    this.#stick = false;
    this.#focusing = focus ? s : null;
    this.#anchor = { s, top: this.#scroller.current!.clientHeight * 0.35 };
    this.#show(index - 1, index + 1);
    this.#rows.point(s);
    this.setState({ atEnd: false }, () => this.#want());
  };

  /** Another part of a history that is too long for one list. */
  #moveSpan(middle: number): void {
    const lowest = blockOf(this.props.timeline.floor);
    const highest = blockOf(Math.max(1, this.props.timeline.head));
    const first = Math.max(
      lowest,
      Math.min(middle - SPAN_BLOCKS / 2, highest - SPAN_BLOCKS + 1),
    );
    this.#heights = new Heights(first, Math.min(highest, first + SPAN_BLOCKS - 1));
  }

  #earlier = (): void => {
    const s = firstOf(this.#heights.first);
    this.#moveSpan(this.#heights.first);
    this.jump(s);
  };

  #onKey = (event: KeyboardEvent): void => {
    if (event.key !== "End" || event.ctrlKey || event.metaKey || event.altKey)
      return this.#rows.onKey(event);
    this.toEnd();
    event.preventDefault();
  };

  override render() {
    const { store, conv, timeline, actions } = this.props;
    const { from, to, atEnd } = this.state;
    const date = this.#date();
    const heights = this.#heights;
    const blocks = [];
    const { active, flash } = this.#rows;
    const focus = this.#rows.focus ?? timeline.lastWhere(isMessage)?.s ?? null;
    for (let index = from; index <= to; index++) {
      const s = (x: Seq | null): Seq | null => (x !== null && blockOf(x) === index ? x : null);
      blocks.push(
        <BlockView
          key={index}
          index={index}
          store={store}
          conv={conv}
          timeline={timeline}
          block={timeline.block(index)}
          before={lastShown(timeline.block(index - 1))}
          after={timeline.block(index + 1)?.items[0]}
          placeholder={heights.of(index)}
          peer={store.receipts.of(conv)}
          seen={store.seen.get(conv.c)}
          queue={store.queue}
          active={s(active)}
          focus={s(focus)}
          flash={s(flash)}
          firstNew={this.#firstNew}
          actions={actions}
        />,
      );
    }
    return (
      <div class="messages">
        <div
          class="scroller"
          ref={this.#scroller}
          role="log"
          aria-live="off"
          aria-label="Messages"
          onScroll={this.#onScroll}
          {...this.#rows.handlers}
          onKeyDown={this.#onKey}
        >
          {heights.first > blockOf(timeline.floor) && (
            <button type="button" class="earlier" onClick={this.#earlier}>
              Earlier messages
            </button>
          )}
          <div class="above" style={{ height: `${heights.above(from)}px` }} />
          {blocks}
          <div class="below" style={{ height: `${heights.below(to)}px` }} />
          <Pending store={store} c={conv.c} onGrow={this.#onPending} />
        </div>
        {date !== null && (
          <div class="date" aria-hidden="true">
            {date}
          </div>
        )}
        {!atEnd && (
          <button
            type="button"
            class="to-end"
            onClick={this.toEnd}
            aria-label="To the newest message"
          >
            {conv.unread > 0 && <span class="badge">{count(conv.unread)}</span>}
            <Icon name="down" />
          </button>
        )}
      </div>
    );
  }

  /** Who sends looks at the end. */
  #onPending = (): void => this.toEnd();
}
