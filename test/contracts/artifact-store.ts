// The contract of ArtifactStore, for every adapter: complete files or none, correct bytes, no unrequested overwrites.
import type { StoreSubject } from './artifact-store/material.ts';
import { readingCases } from './artifact-store/reading.ts';
import { writingCases } from './artifact-store/writing.ts';
import { registerCases, type Case } from './cases.ts';

export type { StoreSubject };

export const artifactStoreCases: readonly Case<StoreSubject>[] = [...writingCases, ...readingCases];

/** Runs the contract as jest tests; `open` is called once. */
export function artifactStoreContract(name: string, open: () => Promise<StoreSubject>): void {
  registerCases(name, artifactStoreCases, open);
}
