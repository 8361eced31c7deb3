/** What stands beside the messages: who opens it is in it, Escape closes it. */

import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { Icon } from "./parts.tsx";

export function Panel(props: {
  label: string;
  title: string;
  class?: string;
  onBack?: () => void;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const ref = useRef<HTMLElement>(null);
  useLayoutEffect(() => {
    // A field of its own may have the focus already.
    if (!ref.current!.contains(document.activeElement)) ref.current!.focus();
  }, []);
  return (
    <aside
      ref={ref}
      class={`members ${props.class ?? ""}`}
      aria-label={props.label}
      tabIndex={-1}
      onKeyDown={(event) => {
        if (event.key === "Escape" && !event.defaultPrevented) props.onClose();
      }}
    >
      <header>
        {props.onBack && (
          <button type="button" class="round" aria-label="All threads" onClick={props.onBack}>
            <Icon name="back" />
          </button>
        )}
        <h2>{props.title}</h2>
        <button type="button" class="round" aria-label="Close" onClick={props.onClose}>
          <Icon name="close" />
        </button>
      </header>
      {props.children}
    </aside>
  );
}
