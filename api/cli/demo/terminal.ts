// The demo's progress on the terminal: one line a step; the line of the step under way is redrawn where there is a terminal.

/** How often the seconds of a step under way are redrawn. */
const REDRAW_MS = 500;

export type Terminal = {
  /** Prints a line as it is. */
  readonly say: (line?: string) => void;
  /** Prints a heading. */
  readonly part: (heading: string) => void;
  /**
   * Does one step of a person: prints who, what, how it went and how long it took. `work` may tell how far it is; what it
   * returns is printed as the step's result. A step that fails becomes a {@link FailedStep} that names it.
   */
  readonly step: <T>(
    who: string,
    what: string,
    work: (tell: (progress: string) => void) => Promise<T>,
    result?: (done: T) => string,
  ) => Promise<T>;
};

/** A step that did not go well; the message says which and why. */
export class FailedStep extends Error {}

/** Prints to `out`; only a terminal is redrawn, a file or a pipe gets each line once. */
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

/** Rows as aligned columns, the first row as their heading; numbers stand right. */
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
