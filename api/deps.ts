// What the API is made from; `main.ts` gives the real things, tests give theirs.
import type { Logger } from 'pino';
import type { ArtifactStore, CodeHost } from '../activities/ports.ts';
import type { Records } from '../activities/records.ts';
import type { SendBytes } from './byte-stream.ts';
import type { WorkflowGateway } from './gateway.ts';
import type { Signer } from '../activities/signing.ts';

export interface Limits {
  /** Largest file that may be uploaded. */
  readonly fileBytes: number;
  readonly jsonBytes: number;
  /** How long a workflow's answer is waited for before the record is shown, or 202 said. */
  readonly answerMs: number;
  /** Pause between two looks at a command that is waited for. */
  readonly pollMs: number;
  /** Host names that requests may be addressed to, without port; `any` where a proxy in front decides. */
  readonly hosts: readonly string[] | 'any';
}

/** A page on the loopback interface is open to DNS rebinding by any web page: only its own names are answered. */
export const loopbackHosts = ['localhost', '127.0.0.1', '[::1]'] as const;

export const defaultLimits: Limits = {
  fileBytes: 2 * 1024 ** 3,
  // Far above any lawful body; a commit of source files is the largest.
  jsonBytes: 1024 ** 2,
  answerMs: 2_000,
  pollMs: 200,
  hosts: loopbackHosts,
};

export interface ApiDeps {
  readonly records: Records;
  readonly areas: ArtifactStore;
  readonly releases: ArtifactStore;
  readonly code: CodeHost;
  readonly workflows: WorkflowGateway;
  readonly signer: Signer;
  readonly log: Logger;
  readonly limits: Limits;
  /** What has happened so often since the start, by the name of a metric. */
  readonly counters: () => Readonly<Record<string, number>>;
}

/** What routes are made from. */
export interface RouteDeps extends ApiDeps {
  /** The one way by which stored bytes leave the platform. */
  readonly send: SendBytes;
}
