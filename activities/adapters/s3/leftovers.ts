// Cleans up after dead writers: aborts incomplete uploads and removes temporary objects that are a day old.
import { ListMultipartUploadsCommand, ListObjectsV2Command } from '@aws-sdk/client-s3';
import { LEFTOVER_AGE_MS } from '../durable-file.ts';
import type { Connection } from './connection.ts';
import type { Uploads } from './uploads.ts';

/** Aborts uploads below `root` and removes objects below `temporary` that are older than a day. */
export async function removeLeftovers(
  { client, bucket }: Connection,
  uploads: Uploads,
  { root, temporary, signal }: { readonly root: string; readonly temporary: string; readonly signal: AbortSignal },
): Promise<void> {
  const before = Date.now() - LEFTOVER_AGE_MS;
  let marker: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {};
  while (marker) {
    const page: Awaited<ReturnType<typeof listUploads>> = await listUploads(marker);
    for (const { Key, UploadId, Initiated } of page.Uploads ?? []) {
      if (Key === undefined || UploadId === undefined || !Initiated || Initiated.getTime() > before) continue;
      await uploads.abort(Key, UploadId);
    }
    marker = page.IsTruncated ? { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker } : undefined;
  }
  for (let after: string | undefined = ''; after !== undefined;) {
    const page = await listTemporary(after);
    for (const { Key, LastModified } of page.Contents ?? []) {
      if (Key === undefined || !LastModified || LastModified.getTime() > before) continue;
      await uploads.remove(Key);
    }
    after = page.IsTruncated ? page.Contents?.at(-1)?.Key : undefined;
  }

  function listUploads(from: { KeyMarker?: string; UploadIdMarker?: string }) {
    return client.send(new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: root, ...from }), {
      abortSignal: signal,
    });
  }
  function listTemporary(after: string) {
    return client.send(
      new ListObjectsV2Command({ Bucket: bucket, Prefix: temporary, ...(after !== '' && { StartAfter: after }) }),
      { abortSignal: signal },
    );
  }
}
