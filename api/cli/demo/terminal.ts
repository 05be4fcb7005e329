// The demo's progress: one line per step; on a terminal the line of the current step is redrawn.

/** Redraw interval of the current step's line. */
const REDRAW_MS = 500;

export type Terminal = {
  /** Prints a line unchanged. */
  readonly say: (line?: string) => void;
  /** Prints a heading. */
  readonly part: (heading: string) => void;
  /**
   * Runs one step of a person: prints who, what, the result and the duration. `work` may report progress; its return value is
   * printed as the result. A failure becomes a {@link FailedStep} that names the step.
   */
  readonly step: <T>(
    who: string,
    what: string,
    work: (tell: (progress: string) => void) => Promise<T>,
    result?: (done: T) => string,
  ) => Promise<T>;
};

/** A failed step; the message says which one and why. */
export class FailedStep extends Error {}

/** Prints to `out`; only a terminal is redrawn; a file or a pipe gets each line once. */
export function createTerminal(out: NodeJS.WriteStream = process.stdout): Terminal {
  const live = { line: '' };
  const isLive = out.isTTY === true;
  const clear = (): void => {
    if (isLive && live.line !== '') out.write('\r\u001b[2K');
  };
  const redraw = (): void => {
    if (!isLive || live.line === '') return;
    out.write(`\r\u001b[2K${live.line.slice(0, Math.max(20, (out.columns ?? 80) - 1))}`);
  };
  const say = (line = ''): void => {
    clear();
    out.write(`${line}\n`);
    redraw();
  };

  return {
    say,
    part: (heading) => say(`\n${heading}`),
    step: async (who, what, work, result = () => '') => {
      const began = Date.now();
      const head = `  ${who.padEnd(12)} ${what}`;
      const seconds = (): string => `${((Date.now() - began) / 1000).toFixed(1)} s`;
      const state = { progress: '' };
      const draw = (): void => {
        live.line = `${head} … ${seconds()}${state.progress === '' ? '' : ` (${state.progress})`}`;
        redraw();
      };
      draw();
      const timer = setInterval(draw, REDRAW_MS);
      const end = (line: string): void => {
        clearInterval(timer);
        clear();
        live.line = '';
        say(line);
      };
      try {
        const done = await work((progress) => {
          state.progress = progress;
          draw();
        });
        const said = result(done);
        end(`${head}${said === '' ? '' : `: ${said}`}  … ${seconds()}`);
        return done;
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        end(`${head}  … failed after ${seconds()}`);
        throw new FailedStep(`${who} ${what}: ${why}`, { cause: error });
      }
    },
  };
}

/** Rows as aligned columns; the first row is the heading; numbers are right-aligned. */
export function table(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  const isNumber = (cell: string): boolean => /^[+-]?[\d.]+$/.test(cell);
  return rows.map((row) =>
    row
      .map((cell, i) => (isNumber(cell) ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
}
