// What both clients do: say what they got as JSON lines, and end when the test closes their standard input.

export const types = [
  'notification',
  'tidings.connected',
  'tidings.gap',
  'tidings.unavailable',
  'tidings.disconnected',
];

/** Prints one line. */
export function report(what) {
  process.stdout.write(JSON.stringify(what) + '\n');
}

/** Calls close and exits when standard input ends. */
export function untilInputEnds(close) {
  process.stdin.resume().on('end', () => {
    close();
    process.exit(0);
  });
}
