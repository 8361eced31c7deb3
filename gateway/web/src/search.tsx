/** The field that finds conversations and messages, and what was found. */

import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Conv } from "../sdk/index.ts";
import { ConvRow, type RowProps } from "./convrow.tsx";
import { excerpt, keyOf, type Finder, type FoundHit } from "./finder.ts";
import { useObserved } from "./observe.ts";
import { Avatar, Icon } from "./parts.tsx";
import type { Store } from "./store.ts";
import { momentOf, plural, shortTime, textOf, titleOf } from "./words.ts";

/** Conversations that are shown at first. */
const NAMES = 5;
/** More is read when the end is so near. */
const NEAR_PX = 300;

const TIPS: [string, string][] = [
  ["pear trees", "both words, in any form"],
  ['"pear trees"', "just so, together"],
  ["pear -apple", "without a word"],
  ["orch*", "words that begin so"],
  ["from:bob", "who wrote it (from:me)"],
  ["in:garden", "in groups of that name"],
  ["mentions:me", "who is named"],
  ["has:link", "or has:image, has:file"],
  ["after:2026-01-31", "or before:, on: (UTC)"],
];

export function SearchBox({ store }: { store: Store }) {
  const finder = useObserved(store.finder);
  const [tips, setTips] = useState(false);
  const field = useRef<HTMLInputElement>(null);
  const id = useId();
  // Before the next key, which may come at once.
  useLayoutEffect(() => {
    if (finder.calls === 0) return;
    field.current?.focus();
    field.current?.select();
  }, [finder.calls]);
  const where = finder.scope ?? (finder.active ? store.current : null);
  const conv = where === null ? undefined : store.convs.get(where);
  const scoped = conv !== undefined && finder.scope !== null;
  return (
    <div class="search" role="search">
      <label class="filter">
        <Icon name="search" />
        <input
          ref={field}
          type="search"
          placeholder={scoped ? `Search in ${titleOf(conv)}` : "Search"}
          aria-label="Search"
          aria-keyshortcuts="/ Control+K"
          autocomplete="off"
          enterkeyhint="search"
          value={finder.text}
          onInput={(event) => finder.change(event.currentTarget.value)}
        />
      </label>
      <button
        type="button"
        class="round help"
        title="How to search"
        aria-label="How to search"
        aria-expanded={tips}
        aria-controls={id}
        onClick={() => setTips(!tips)}
      >
        ?
      </button>
      {conv && (
        <button
          type="button"
          class="scope"
          aria-pressed={scoped}
          onClick={() => finder.narrow(scoped ? null : conv.c)}
        >
          <span>Only in {titleOf(conv)}</span>
          {scoped && <Icon name="close" />}
        </button>
      )}
      {tips && (
        <dl id={id} class="tips">
          {TIPS.map(([text, what]) => (
            <div key={text}>
              <dt>{text}</dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
      )}
    </div>
  );
}

/** Arrows go through what was found; Escape ends the search. For what holds field and results. */
export function onSearchKey(finder: Finder, event: KeyboardEvent): void {
  const box = event.currentTarget as HTMLElement;
  const field = box.querySelector<HTMLElement>("[type=search]")!;
  const all = [...box.querySelectorAll<HTMLElement>(".found .conv, .found .hit")];
  const at = all.indexOf(event.target as HTMLElement);
  const inField = event.target === field;
  if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (!inField && at < 0 && !finder.active) return;
    if (finder.active || finder.scope !== null) finder.clear();
    else if (inField) field.blur();
    if (at >= 0) field.focus();
  } else if (inField && event.key === "Enter") {
    if (finder.state === "busy") finder.now();
    else all[0]?.click();
  } else if (inField && event.key === "ArrowDown") {
    (all.find((row) => row.classList.contains("visited")) ?? all[0])?.focus();
  } else if (at >= 0 && event.key === "ArrowDown") all[at + 1]?.focus();
  else if (at >= 0 && event.key === "ArrowUp") (all[at - 1] ?? field).focus();
  else return;
  event.preventDefault();
}

interface Props extends Omit<RowProps, "conv"> {
  /** Conversations of that name. */
  convs: Conv[];
  onHit: (hit: FoundHit) => void;
}

export function Results({ convs, onHit, ...row }: Props) {
  const { store } = row;
  const finder = useObserved(store.finder);
  const { hits, state, scope } = finder;
  const [all, setAll] = useState(false);
  useEffect(() => setAll(false), [finder.text]);
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    list.current!.scrollTop = 0;
  }, [finder.text, scope]);
  useEffect(() => {
    if (state !== "ready") return;
    const n = plural(hits.length, "message");
    store.say(hits.length === 0 ? "No message found" : `${n}${finder.more ? " or more" : ""}`);
  }, [state, finder.text, scope]);
  const named = scope !== null ? [] : all ? convs : convs.slice(0, NAMES);
  const firstBegun = hits.findIndex(({ begun }) => begun);
  return (
    <div class="convs found" ref={list} aria-busy={state === "busy"}>
      {named.length > 0 && (
        <section aria-label="Conversations">
          <h2>Conversations</h2>
          <ul>
            {named.map((conv) => (
              <li key={conv.c}>
                <ConvRow conv={conv} {...row} />
              </li>
            ))}
          </ul>
          {named.length < convs.length && (
            <button type="button" class="rest" onClick={() => setAll(true)}>
              All {plural(convs.length, "conversation")}
            </button>
          )}
        </section>
      )}
      <section aria-label="Messages">
        <h2>Messages</h2>
        <ul>
          {hits.map((hit, i) => (
            <li key={keyOf(hit)}>
              {i > 0 && i === firstBegun && <p class="begun">With words that begin so</p>}
              <HitRow store={store} hit={hit} onHit={onHit} />
            </li>
          ))}
        </ul>
        <End store={store} list={list} />
      </section>
    </div>
  );
}

function HitRow(props: { store: Store; hit: FoundHit; onHit: (hit: FoundHit) => void }) {
  const { store, hit } = props;
  const { record, spans } = hit;
  const conv = store.convs.get(hit.c);
  const title = conv ? titleOf(conv) : "Conversation";
  const visited = store.finder.visited === keyOf(hit);
  const own = record.from === store.me;
  // The other one of two has the name of the conversation.
  const who = own ? "You: " : conv?.kind === "direct" ? "" : `${record.from}: `;
  return (
    <button
      type="button"
      class={`hit${visited ? " visited" : ""}`}
      data-hit={keyOf(hit)}
      aria-current={visited ? "true" : undefined}
      onClick={() => props.onHit(hit)}
    >
      <Avatar name={title} group={conv?.kind === "group"} small />
      <span class="title">{title}</span>
      <time title={momentOf(record.ts)}>{shortTime(record.ts)}</time>
      <span class="what">
        <b>{who}</b>
        {excerpt(textOf(record), spans).map(({ text, found }) =>
          found ? <mark>{text}</mark> : text,
        )}
      </span>
    </button>
  );
}

/** What follows the last hit: more of them, or why there are none. */
function End(props: { store: Store; list: { current: HTMLElement | null } }) {
  const { finder, convs } = props.store;
  const { state, hits, scope, error, complete, more } = finder;
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (state !== "ready" || !more) return;
    const near = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && void finder.load(),
      { root: props.list.current, rootMargin: `${NEAR_PX}px` },
    );
    near.observe(end.current!);
    return () => near.disconnect();
  }, [state, more, hits.length]);
  const conv = scope === null ? undefined : convs.get(scope);
  return (
    <div class="end" ref={end}>
      {state === "busy" && <p>Searching…</p>}
      {state === "failed" && (
        <>
          <p class="error">Could not search: {error?.message}</p>
          <button type="button" onClick={() => void finder.load()}>
            Try again
          </button>
        </>
      )}
      {state === "ready" && more && (
        <button type="button" onClick={() => void finder.load()}>
          More
        </button>
      )}
      {state === "ready" && conv?.searchable === false && <p>Search is off here.</p>}
      {state === "ready" && hits.length === 0 && conv?.searchable !== false && (
        <p>No message{conv ? ` in ${titleOf(conv)}` : ""} has all of this.</p>
      )}
      {state === "ready" && !complete && (
        <p>The index is not complete yet: some messages may be missing here.</p>
      )}
      {state === "ready" && conv && !more && (
        <button type="button" onClick={() => finder.narrow(null)}>
          Search everywhere
        </button>
      )}
    </div>
  );
}
