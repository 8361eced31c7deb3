/** One block of a conversation, or what stands for it while it is not here. */

import { Component } from "preact";
import { isHole, type Conv, type Seq } from "../sdk/index.ts";
import { Row } from "./message.tsx";
import type { Peer } from "./receipts.ts";
import type { Seen, Store } from "./store.ts";
import { blockOf, seqOf, type Block, type Item, type Timeline } from "./timeline.ts";
import type { RowActions } from "./tools.tsx";

interface BlockProps {
  index: number;
  store: Store;
  conv: Conv;
  timeline: Timeline;
  block: Block | undefined;
  before: Item | undefined;
  after: Item | undefined;
  placeholder: number;
  peer: Peer | null;
  seen: Seen | undefined;
  queue: unknown;
  active: Seq | null;
  focus: Seq | null;
  flash: Seq | null;
  firstNew: Seq | null;
  actions: RowActions;
}

export function lastShown(block: Block | undefined): Item | undefined {
  return block?.items.findLast((item) => !isHole(item));
}

/** Drawn again only when something in it changed: scrolling alone costs next to nothing. */
export class BlockView extends Component<BlockProps> {
  #version = -1;

  override shouldComponentUpdate(next: BlockProps): boolean {
    const now = this.props;
    if ((next.block?.version ?? -1) !== this.#version) return true;
    for (const key of Object.keys(next) as (keyof BlockProps)[]) {
      if (key === "actions" || key === "placeholder" || key === "conv") continue;
      if (next[key] !== now[key]) return true;
    }
    return false;
  }

  override render() {
    const { block, index, placeholder, firstNew } = this.props;
    this.#version = block?.version ?? -1;
    if (block?.state === "failed")
      return (
        <div class="block failed" data-block={index} style={{ height: `${placeholder}px` }}>
          <button type="button" onClick={() => this.props.timeline.retry()}>
            These messages could not be read. Try again
          </button>
        </div>
      );
    if (block?.state !== "ready")
      return (
        <div class="block skeleton" data-block={index} style={{ height: `${placeholder}px` }} />
      );
    const items = block.items;
    const newest = (i: number): boolean => {
      if (firstNew === null || seqOf(items[i]!) < firstNew) return false;
      const before = i > 0 ? items[i - 1] : this.props.before;
      return before === undefined
        ? blockOf(firstNew) === index || i > 0
        : seqOf(before) < firstNew;
    };
    return (
      <div class="block" data-block={index}>
        {items.map((item, i) => (
          <Row
            key={seqOf(item)}
            {...this.props}
            item={item}
            before={i > 0 ? items[i - 1] : this.props.before}
            after={items[i + 1] ?? this.props.after}
            active={this.props.active === seqOf(item)}
            reachable={this.props.focus === seqOf(item)}
            flash={this.props.flash === seqOf(item)}
            firstNew={newest(i)}
          />
        ))}
      </div>
    );
  }
}
