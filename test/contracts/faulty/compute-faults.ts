// Faults in the part of Records about compute profiles and pools.
import { randomUUID } from 'node:crypto';
import { builtInProfiles } from '../../../workflows/domain/compute.ts';
import type { RecordsFault } from './command-faults.ts';

const offers =
  'a project is offered the built-in profiles, or what an administrator has chosen, which then is not deleted';
const turns = 'a job is at its turn only in a pool that can run it, and not while a pool before it can';
const pools = 'watched pools are listed in order with the number of their jobs, and only while they are watched';

export const computeFaults: readonly RecordsFault[] = [
  {
    fault: 'a repeated change of a profile counts again',
    seenBy: 'a compute profile is kept as given and replaced, and a built-in one never changes',
    plant: (records) => ({
      putComputeProfile: (profile, audit) => records.putComputeProfile(profile, { ...audit, key: randomUUID() }),
    }),
  },
  {
    fault: 'every project is offered the built-in profiles',
    seenBy: offers,
    plant: () => ({ offeredProfiles: async () => builtInProfiles }),
  },
  {
    fault: 'a profile is deleted although a project is offered it',
    seenBy: offers,
    plant: () => ({ deleteComputeProfile: async () => undefined }),
  },
  {
    fault: 'a pool takes what it cannot run',
    seenBy: turns,
    plant: (records) => ({
      jobTurns: (kind, pool, before) => records.jobTurns(kind, { ...pool, gpus: 64 }, before),
    }),
  },
  {
    fault: 'a pool takes what a pool before it can run',
    seenBy: turns,
    plant: (records) => ({ jobTurns: (kind, pool) => records.jobTurns(kind, pool, []) }),
  },
  {
    fault: 'a pool counts as watched for ever',
    seenBy: pools,
    plant: (records) => ({ pools: () => records.pools(3_600_000) }),
  },
];
