// Sends the digest of a workflow's input with each of its activities, which compare it with the digest recorded at the start.
import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { defaultPayloadConverter } from '@temporalio/common';
import type { WorkflowInterceptors } from '@temporalio/workflow';
import canonicalize from 'canonicalize';

/** Name of the header. */
export const START_DIGEST = 'ocdl-start-digest';

/** SHA-256 of the RFC 8785 form of a workflow's input; empty if the input has no such form. */
export function startDigest(input: unknown): string {
  try {
    return bytesToHex(sha256(new TextEncoder().encode(canonicalize(input) ?? '')));
  } catch {
    return '';
  }
}

/** Interceptors of every workflow. Only the input counts, not the state carried over to the next run. */
export const interceptors = (): WorkflowInterceptors => {
  const own = { digest: '' };
  const header = () => ({ [START_DIGEST]: defaultPayloadConverter.toPayload(own.digest) });
  return {
    inbound: [
      {
        execute(input, next) {
          own.digest = startDigest(input.args[0]);
          return next(input);
        },
      },
    ],
    outbound: [
      {
        scheduleActivity: (input, next) => next({ ...input, headers: { ...input.headers, ...header() } }),
        scheduleLocalActivity: (input, next) => next({ ...input, headers: { ...input.headers, ...header() } }),
      },
    ],
  };
};
