// Markers and checkpoints in the systems behind the ports: as files in a store, as commits, as the bus's own marker.
import { text } from 'node:stream/consumers';
import type { ArtifactUri, StorePath } from '../workflows/domain/names.ts';
import { isFailure } from './failures.ts';
import { readCheckpoint, writeCheckpoint, type MarkedSystem, type MarkedName } from './installation.ts';
import { once } from './model-center.ts';
import type { ArtifactStore, CodeHost, EventBus } from './ports.ts';

/** A store's marker file: created once, never replaced. */
const MARKER = 'ocdl/installation.json' as StorePath;
const CHECKPOINTS = 'ocdl/checkpoints' as StorePath;
/** Older checkpoints that are kept: of two writers, the slower one may finish last. */
const SPARE = 2;
const checkpointPath = (tick: number): StorePath =>
  `${CHECKPOINTS}/${String(tick).padStart(12, '0')}.json` as StorePath;

/** An artifact store as a marked system. */
export function markedStore(name: MarkedName, where: string, store: ArtifactStore): MarkedSystem {
  const textOf = async (uri: ArtifactUri): Promise<string | undefined> => {
    try {
      return await text(await store.read(uri));
    } catch (error) {
      if (isFailure(error, 'NotFound')) return undefined;
      throw error;
    }
  };
  const owner = async (): Promise<string | undefined> => (await textOf(store.uri(MARKER)))?.trim();
  const listed = async () => (await store.list(CHECKPOINTS)).files;
  return {
    name,
    where,
    owner,
    async claim(installation) {
      try {
        await store.write(MARKER, once(Buffer.from(`${installation}\n`)));
        return installation;
      } catch (error) {
        if (!isFailure(error, 'Conflict')) throw error;
        return (await owner()) ?? installation;
      }
    },
    checkpoints: {
      seldom: false,
      async newest() {
        // If one was just removed, a newer one exists.
        for (const { uri } of [...(await listed())].reverse()) {
          const found = readCheckpoint((await textOf(uri)) ?? '');
          if (found) return found;
        }
        return undefined;
      },
      async keep(checkpoint) {
        await store.write(checkpointPath(checkpoint.tick), once(Buffer.from(writeCheckpoint(checkpoint))));
        const oldest = checkpointPath(Math.max(0, checkpoint.tick - SPARE));
        for (const { path, uri } of await listed()) if (path < oldest) await store.remove(uri);
      },
    },
  };
}

/** A repository that contains only the marker and checkpoints. */
const REPOSITORY = 'ocdl/installation';
const BRANCH = 'checkpoints';
const FILE = 'checkpoint.json';
const checkpointMessage = 'Checkpoint ';
const claimMessage = 'Belongs to installation ';
/** Upper bound on commits on the marker's branch: far more than attempts to claim it. */
const CLAIMS = 1_000;

/** The Git repositories as a marked system. The oldest claim on the branch `main` counts. */
export function markedCode(where: string, code: CodeHost): MarkedSystem {
  const orNone = async <T>(work: Promise<T>): Promise<T | undefined> => {
    try {
      return await work;
    } catch (error) {
      if (isFailure(error, 'NotFound')) return undefined;
      throw error;
    }
  };
  async function owner(): Promise<string | undefined> {
    const commits = (await orNone(code.log(REPOSITORY, 'main', CLAIMS))) ?? [];
    const first = commits.findLast(({ message }) => message.startsWith(claimMessage));
    return first?.message.slice(claimMessage.length).trim();
  }
  return {
    name: 'git',
    where,
    owner,
    async claim(installation) {
      const known = await owner();
      if (known !== undefined) return known;
      await code.ensure(REPOSITORY);
      await code.commit({
        repository: REPOSITORY,
        branch: 'main',
        files: { [`${installation}.txt`]: `${installation}\n` },
        message: `${claimMessage}${installation}`,
        author: 'ocdl',
      });
      return (await owner()) ?? installation;
    },
    checkpoints: {
      seldom: true,
      async newest() {
        // Of two writers, the slower one may have committed last.
        const commits = (await orNone(code.log(REPOSITORY, BRANCH, 1 + SPARE))) ?? [];
        const [newest] = commits
          .filter(({ message }) => message.startsWith(checkpointMessage))
          .map(({ commit, message }) => ({ commit, tick: Number(message.slice(checkpointMessage.length)) }))
          .sort((one, other) => other.tick - one.tick);
        const bytes = newest && (await orNone(code.read(REPOSITORY, newest.commit, FILE)));
        return bytes && readCheckpoint(Buffer.from(bytes).toString('utf8'));
      },
      async keep(checkpoint) {
        await code.commit({
          repository: REPOSITORY,
          branch: BRANCH,
          files: { [FILE]: writeCheckpoint(checkpoint) },
          message: `${checkpointMessage}${checkpoint.tick}`,
          author: 'ocdl',
        });
      },
    },
  };
}

/** The event bus as a marked system. Events only announce what the records hold, so it stores no checkpoints. */
export const markedBus = (where: string, { marker }: EventBus): MarkedSystem => ({
  name: 'events',
  where,
  owner: () => marker.owner(),
  claim: (installation) => marker.claim(installation),
});
