// The formats of environment variables.
import { accessSync, constants, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { z } from 'zod';

export const text = z.string();
/** An absolute path; `~` is the user's home, even if no shell has expanded it. */
export const pathOf = (given: string): string => resolve(given.replace(/^~(?=\/|$)/, homedir()));
/** A folder, as an absolute path. */
export const folder = text.transform(pathOf);
/** A readable file, as an absolute path. */
export const file = text.transform(pathOf).refine(isReadable, 'is not a readable file');
/** An address without credentials. */
export const webUrl = z
  .url({ protocol: /^https?$/, error: 'must be a URL that begins with http:// or https://', abort: true })
  .refine((url) => new URL(url).username === '', 'must not contain a user or a password');
export const yesOrNo = z.stringbool({ truthy: ['true'], falsy: ['false'], error: 'must be true or false' });
/** Parts that are separated by commas. */
export const list = text
  .transform((given) => given.split(',').map((part) => part.trim()))
  .pipe(z.array(z.string().min(1, 'has an empty part')));

/** A whole number within limits; `what` names the quantity in messages. */
export function whole(what: string, least: number, most: number) {
  const error = `must be ${what} from ${least} to ${most}`;
  return text
    .regex(/^\d{1,16}$/, error)
    .transform(Number)
    .pipe(z.int(error).min(least, error).max(most, error));
}
export const port = whole('a port', 0, 65_535);

/** A variable whose value is never printed, and can also be read from the file that NAME_FILE names. */
export function secret<T extends z.ZodType>(type: T, description: string): T {
  return type.meta({ description, secret: true });
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
