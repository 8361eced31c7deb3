/** Emoji that are at hand for reactions, and what else may be one. */

/** In rows of COLUMNS. */
export const COMMON: readonly (readonly [emoji: string, name: string])[] = [
  ["👍", "thumbs up"],
  ["❤️", "heart"],
  ["😂", "tears of joy"],
  ["😮", "surprised"],
  ["😢", "crying"],
  ["🙏", "folded hands"],
  ["🎉", "party popper"],
  ["👎", "thumbs down"],
  ["😀", "grinning"],
  ["😅", "nervous laugh"],
  ["😍", "heart eyes"],
  ["🤔", "thinking"],
  ["😎", "sunglasses"],
  ["😭", "loudly crying"],
  ["😡", "angry"],
  ["👀", "eyes"],
  ["👏", "clapping"],
  ["💪", "strong"],
  ["🔥", "fire"],
  ["✅", "check mark"],
  ["❌", "cross mark"],
  ["💯", "hundred points"],
  ["🚀", "rocket"],
  ["☕", "coffee"],
];
export const COLUMNS = 8;

/** The server's bound, in bytes. */
const EMOJI_MAX = 32;
const NAMED = /^:[a-z0-9_+-]+:$/;
const PICTURE = /\p{Emoji_Presentation}|\p{Emoji}\uFE0F|\u20E3|^\p{RI}{2}$/u;
const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });

/** One emoji, or `:name:`; the server has the last word. */
export function isEmoji(text: string): boolean {
  if (new TextEncoder().encode(text).length > EMOJI_MAX) return false;
  if (NAMED.test(text)) return true;
  return PICTURE.test(text) && [...segmenter.segment(text)].length === 1;
}

export const nameOf = (emoji: string): string =>
  COMMON.find(([known]) => known === emoji)?.[1] ?? emoji;
