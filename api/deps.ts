// The API's dependencies. `main.ts` passes the real ones, tests pass their own.
import type { Logger } from 'pino';
import type { ArtifactStore, CodeHost } from '../activities/ports.ts';
import type { Records } from '../activities/records.ts';
import type { SendBytes } from './byte-stream.ts';
import type { WorkflowGateway } from './gateway.ts';
import type { RegisteredSigner } from '../activities/signing.ts';

export interface Limits {
  /** Maximum size of an uploaded file. */
  readonly fileBytes: number;
  readonly jsonBytes: number;
  /** For commits of source files and scans with thousands of findings. */
  readonly largeJsonBytes: number;
  /** How long to wait for a workflow's answer before answering with the record or 202. */
  readonly answerMs: number;
  /** Pause between polls while waiting for a command. */
  readonly pollMs: number;
  /** Accepted host names, without port; `any` if a proxy in front checks them. */
  readonly hosts: readonly string[] | 'any';
}

/** Any web page can reach a loopback server by DNS rebinding, so only these host names are accepted. */
export const loopbackHosts = ['localhost', '127.0.0.1', '[::1]'] as const;

export const defaultLimits: Limits = {
  fileBytes: 2 * 1024 ** 3,
  // Far above any valid body, except the large ones.
  jsonBytes: 1024 ** 2,
  // 5,000 findings with the longest names and paths.
  largeJsonBytes: 32 * 1024 ** 2,
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
  readonly signer: RegisteredSigner;
  readonly log: Logger;
  readonly limits: Limits;
  /** Counts since the start, by metric name. */
  readonly counters: () => Readonly<Record<string, number>>;
}

/** The dependencies of routes. */
export interface RouteDeps extends ApiDeps {
  /** The only function that sends stored bytes to callers. */
  readonly send: SendBytes;
}
