/**
 * For a program with `belongings()`, openSync() and closeSync(), which may have few descriptors: makes `open` with 0, 1, 2 … to spare, until it goes
 * well, and closes what it gives, an array. `failures` is then what it failed with, as `told` has it of `error`; `left` how often something was left
 * of it, and `same` whether all is as before.
 */
export function untilEnoughDescriptors(open: string, told: string): string {
  return `
    const before = belongings();
    const failures = new Set();
    let left = 0;
    for (let spare = 0; spare < 30; spare++) {
      const taken = [];
      try { for (;;) taken.push(openSync('/dev/null')); } catch {}
      for (let n = 0; n < spare; n++) closeSync(taken.pop());
      let made;
      try { made = ${open}; } catch (error) { failures.add(${told}); }
      for (const fd of taken) closeSync(fd);
      if (made !== undefined) { made.forEach((one) => one.close()); break; }
      if (belongings() !== before) left++;
    }
    const same = belongings() === before;`;
}
