/** Whom this user has blocked. */

import type { Blocked, Client } from "../sdk/index.ts";
import { Observed } from "./observe.ts";

export class Blocks extends Observed {
  #client: Client;
  #users = new Map<string, Blocked>();

  constructor(client: Client) {
    super();
    this.#client = client;
    client.on("convs", () => void this.#load());
    client.on("block", ({ user, on }) => {
      if (on) this.#users.set(user, { user, ts: Date.now() + client.clockSkewMs });
      else this.#users.delete(user);
      this.changed();
    });
  }

  has(user: string | null | undefined): boolean {
    return !!user && this.#users.has(user);
  }

  /** The newest first. */
  list(): Blocked[] {
    return [...this.#users.values()].sort((a, b) => b.ts - a.ts);
  }

  async #load(): Promise<void> {
    try {
      const users = await this.#client.blocks();
      this.#users = new Map(users.map((each) => [each.user, each]));
      this.changed();
    } catch {
      // A server that knows nothing of it, or none at all: the next connection asks again.
    }
  }
}
