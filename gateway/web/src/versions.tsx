/** What a message said before it was edited, for those who may know. */

import { useEffect, useState } from "preact/hooks";
import type { Conv, Rec, Version } from "../sdk/index.ts";
import { explain } from "./dialogs.tsx";
import { Dialog } from "./parts.tsx";
import type { Store } from "./store.ts";
import { momentOf, textOf } from "./words.ts";

/** The author, and those who run the group; in a direct conversation both. */
export function mayCompare(conv: Conv, rec: Rec, me: string): boolean {
  const runs = conv.role === "owner" || conv.role === "admin";
  return rec.from === me || conv.kind === "direct" || runs;
}

export function Versions(props: { store: Store; rec: Rec; onClose: () => void }) {
  const { store, rec, onClose } = props;
  const [versions, setVersions] = useState<Version[] | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    store.client
      .edits(rec.c, rec.s)
      .then(setVersions)
      .catch((err: unknown) => setError(explain(err)));
  }, [rec.s]);
  return (
    <Dialog title="Edits" onClose={onClose}>
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      <ol class="versions" aria-label="From the first version to the newest">
        {versions?.map((version) => (
          <li key={version.s}>
            <time dateTime={new Date(version.ts).toISOString()}>{momentOf(version.ts)}</time>
            <p class="text">{textOf({ kind: rec.kind, body: version.body })}</p>
          </li>
        ))}
      </ol>
    </Dialog>
  );
}
