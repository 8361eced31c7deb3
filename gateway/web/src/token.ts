/** The token comes in the address (`#token=…`), leaves it at once, and lives as long as the tab. */

import { tokenClaims } from "../sdk/index.ts";

const KEY = "loquat.token";
const PATTERN = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/** Takes a token out of the address; null when there is none. */
export function takeFromAddress(): string | null {
  const found = /^#(?:.*&)?token=([^&]+)/.exec(location.hash);
  if (!found) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return decode(found[1]!);
}

/** What somebody pasted: a token, or a whole link with one. */
export function fromText(text: string): string | null {
  const found = /[#&]token=([^&\s]+)/.exec(text);
  const token = found ? decode(found[1]!) : text.trim();
  return token !== null && PATTERN.test(token) && tokenClaims(token)?.sub ? token : null;
}

export function stored(): string | null {
  return sessionStorage.getItem(KEY);
}

export function store(token: string): void {
  sessionStorage.setItem(KEY, token);
}

export function forget(): void {
  sessionStorage.removeItem(KEY);
}

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
