// Says whether local jobs can run sandboxed here: bubblewrap is installed and may make its namespaces.
import { runProgram } from './run-program.ts';

export type SandboxState = { readonly works: true } | { readonly works: false; readonly why: string };

/** Tries bubblewrap the way a job uses it: file system, network and processes of its own. */
export async function checkSandbox(env?: Readonly<Record<string, string | undefined>>): Promise<SandboxState> {
  const { code, output } = await runProgram('bwrap', ['--ro-bind', '/', '/', '--unshare-all', 'true'], { env });
  if (code === 0) return { works: true };
  return {
    works: false,
    why: /ENOENT/.test(output)
      ? 'bubblewrap is not installed (Debian, Ubuntu: apt-get install bubblewrap; macOS has none)'
      : `bubblewrap does not work here: ${output.split('\n')[0] ?? ''}`,
  };
}
