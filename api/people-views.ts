// Output schemas for people and their tokens.
import { z } from 'zod';
import type { IssuedToken, User } from '../activities/records.ts';
import type { Shown } from './views.ts';

const text = z.string();
const textOrNull = z.string().nullable();

/** Shown only once, when it is created. */
export const newTokenView = z.object({ tokenId: text, token: text, expiresAt: textOrNull });
export const tokenView = z.object({
  tokenId: text,
  kind: z.enum(['user', 'application', 'job']),
  name: text,
  createdAt: text,
  expiresAt: textOrNull,
  revokedAt: textOrNull,
}) satisfies z.ZodType<Shown<IssuedToken>>;
export const revokedView = z.object({ tokenId: text, revoked: z.boolean() });

export const userView = z.object({
  user: text,
  admin: z.boolean(),
  disabled: z.boolean(),
}) satisfies z.ZodType<Shown<User>>;
