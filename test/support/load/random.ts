/** Numbers that look random and are the same in every run: what failed once can be run again. */

/** Gives whole numbers from `least` to `most`, both included. */
export type Random = (least: number, most: number) => number

export function randomFrom(seed: number): Random {
  let state = seed | 0
  return (least, most) => {
    // mulberry32, https://gist.github.com/tommyettinger/46a874533244883189143505d203312c
    state = (state + 0x6d2b79f5) | 0
    let bits = Math.imul(state ^ (state >>> 15), state | 1)
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61)
    return least + Math.floor((((bits ^ (bits >>> 14)) >>> 0) / 0x1_0000_0000) * (most - least + 1))
  }
}

/** Small numbers as often as big ones: 1 to 10 comes up as often as 100,000 to 1,000,000. */
export function anySize(random: Random, most: number): number {
  return Math.round(Math.exp((random(0, 10_000) / 10_000) * Math.log(most)))
}
