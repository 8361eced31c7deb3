/** Who is there of those that the page shows. */

import { WATCH_MAX, type Client, type Presence } from "../sdk/index.ts";
import { Observed } from "./observe.ts";

/** Where somebody is shown; there is room for WATCH_MAX in all, and the first places go first. */
const PLACES = ["header", "members", "list"] as const;
export type Place = (typeof PLACES)[number];

export class Presences extends Observed {
  #client: Client;
  #shown = new Map<Place, string[]>();
  #watched = new Set<string>();
  #states = new Map<string, Presence>();

  constructor(client: Client) {
    super();
    this.#client = client;
    client.on("presence", (presence) => {
      this.#states.set(presence.user, presence);
      this.changed();
    });
    client.on("state", ({ name }) => {
      if (name === "live" || this.#states.size === 0) return;
      this.#states.clear(); // nobody knows; the next connection tells all of it
      this.changed();
    });
  }

  /** Undefined: not known, or not this user's business. */
  of(user: string | null | undefined): Presence | undefined {
    return user ? this.#states.get(user) : undefined;
  }

  /** These are shown there, instead of those before. */
  show(place: Place, users: string[]): void {
    this.#shown.set(place, users);
    const all = PLACES.flatMap((each) => this.#shown.get(each) ?? []);
    const wanted = new Set([...new Set(all)].filter((user) => user !== this.#client.user));
    const most = new Set([...wanted].slice(0, WATCH_MAX));
    const gone = [...this.#watched].filter((user) => !most.has(user));
    for (const user of gone) this.#states.delete(user);
    this.#watched = most;
    this.#client.unwatch(gone);
    this.#client.watch([...most]);
  }
}
