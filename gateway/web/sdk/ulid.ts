/** ULIDs: 48 bits of time, 80 random bits; sorted by time, also within one millisecond. */

const DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const RANDOM_DIGITS = 16;

let lastMs = 0;
let random: number[] = [];

function draw(): void {
  const bytes = crypto.getRandomValues(new Uint8Array(RANDOM_DIGITS));
  random = Array.from(bytes, (byte) => byte & 31);
}

function increment(): void {
  for (let i = RANDOM_DIGITS - 1; i >= 0; i--) {
    random[i] = (random[i]! + 1) & 31;
    if (random[i] !== 0) return;
  }
}

export function ulid(now = Date.now()): string {
  if (now > lastMs || random.length === 0) {
    lastMs = Math.max(now, lastMs);
    draw();
  } else {
    increment(); // the clock stands or went back: stay in order
  }
  let time = "";
  for (let i = 0, rest = lastMs; i < 10; i++) {
    time = DIGITS[rest % 32] + time;
    rest = Math.floor(rest / 32);
  }
  return time + random.map((digit) => DIGITS[digit]).join("");
}
