// Validates repositories, branches, revisions and authors: none can be taken for an option or leave the root folder.
import { NAME_LIMIT, nameProblem, pathProblem } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';

/** `<project>/code` has two parts; a name with more parts than this is a mistake. */
const REPOSITORY_DEPTH = 4;
/** File names are limited to 255 bytes, and git adds `.lock` to a branch's. */
const BRANCH_LIMIT = 200;
const BRANCH_SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$/;
const COMMIT = /^[0-9a-f]{40}$/;

export const isCommit = (text: string): boolean => COMMIT.test(text);

/** Why `text` is not a valid branch, or `undefined`. Stricter than git; a commit id is not a branch. */
function branchProblem(text: string): string | undefined {
  if (text.length > BRANCH_LIMIT) return `it has ${text.length} characters; the limit is ${BRANCH_LIMIT}`;
  if (isCommit(text)) return 'it looks like a commit id';
  const isValid = text.split('/').every((segment) => BRANCH_SEGMENT.test(segment) && !segment.endsWith('.lock'));
  return isValid && text !== 'HEAD' ? undefined : 'use a name such as "main" or "ocdl/code-vulnerability-3"';
}

/** An application's repository is named `app-` plus a name of any valid length. */
const PREFIX = 'app-';

function partProblem(part: string): string | undefined {
  const isPrefixed = part.startsWith(PREFIX) && part.length > NAME_LIMIT;
  return nameProblem(isPrefixed ? part.slice(PREFIX.length) : part);
}

/** The validated parts of a repository name. */
export function checkRepository(repository: string): readonly string[] {
  const parts = repository.split('/');
  const problem =
    parts.length > REPOSITORY_DEPTH
      ? `it has ${parts.length} parts; the limit is ${REPOSITORY_DEPTH}`
      : parts.map(partProblem).find(Boolean);
  if (problem) throw failure('InvalidInput', `"${shown(repository)}" is not a valid repository name: ${problem}`);
  return parts;
}

export function checkBranch(branch: string): string {
  const problem = branchProblem(branch);
  if (problem) throw failure('InvalidInput', `"${shown(branch)}" is not a valid branch name: ${problem}`);
  return branch;
}

/** The revision in git's form: a commit id, or the full name of a branch. */
export function checkRevision(revision: string): string {
  return isCommit(revision) ? revision : `refs/heads/${checkBranch(revision)}`;
}

export function checkCommit(commit: string): string {
  if (!isCommit(commit))
    throw failure('InvalidInput', `"${shown(commit)}" is not a commit id: it must have 40 hexadecimal digits`);
  return commit;
}

export function checkFile(path: string): string {
  const problem = pathProblem(path);
  if (problem) throw failure('InvalidInput', `"${shown(path)}" is not a valid file path: ${problem}`);
  return path;
}

/** Author and committer lines of git are built from this single name. */
export function checkAuthor(author: string): string {
  const problem = nameProblem(author);
  if (problem) throw failure('InvalidInput', `"${shown(author)}" is not a valid author name: ${problem}`);
  return author;
}

const shown = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 100);
