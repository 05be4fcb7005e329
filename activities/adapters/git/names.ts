// What may be a repository, a branch, a revision, an author: nothing here can be taken for an option or leave the root.
import { NAME_LIMIT, nameProblem, pathProblem } from '../../../workflows/domain/names.ts';
import { failure } from '../../failures.ts';

/** `<project>/code` has two parts; more than this is a mistake. */
const REPOSITORY_DEPTH = 4;
/** A file name on disk ends at 255 bytes, and git adds `.lock` to a branch's. */
const BRANCH_LIMIT = 200;
const BRANCH_SEGMENT = /^[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$/;
const COMMIT = /^[0-9a-f]{40}$/;

export const isCommit = (text: string): boolean => COMMIT.test(text);

/** Why `text` is no branch, or `undefined` when it is one. Stricter than git; a commit's id is none. */
function branchProblem(text: string): string | undefined {
  if (text.length > BRANCH_LIMIT) return `a branch has at most ${BRANCH_LIMIT} characters`;
  if (isCommit(text)) return 'it looks like a commit';
  const lawful = text.split('/').every((segment) => BRANCH_SEGMENT.test(segment) && !segment.endsWith('.lock'));
  return lawful && text !== 'HEAD' ? undefined : 'a branch is like "main" or "ocdl/code-vulnerability-3"';
}

/** An application's repository is called `app-` and then by a name of any length. */
const PREFIX = 'app-';

function partProblem(part: string): string | undefined {
  const isPrefixed = part.startsWith(PREFIX) && part.length > NAME_LIMIT;
  return nameProblem(isPrefixed ? part.slice(PREFIX.length) : part);
}

/** The repository's parts, checked. */
export function checkRepository(repository: string): readonly string[] {
  const parts = repository.split('/');
  const problem = parts.length > REPOSITORY_DEPTH ? 'too many parts' : parts.map(partProblem).find(Boolean);
  if (problem) throw failure('InvalidInput', `"${shown(repository)}" is no repository: ${problem}`);
  return parts;
}

export function checkBranch(branch: string): string {
  const problem = branchProblem(branch);
  if (problem) throw failure('InvalidInput', `"${shown(branch)}" is no branch: ${problem}`);
  return branch;
}

/** The revision as git is asked for it: a commit's id, or the full name of a branch. */
export function checkRevision(revision: string): string {
  return isCommit(revision) ? revision : `refs/heads/${checkBranch(revision)}`;
}

export function checkCommit(commit: string): string {
  if (!isCommit(commit)) throw failure('InvalidInput', `"${shown(commit)}" is no commit: 40 hexadecimal digits`);
  return commit;
}

export function checkFile(path: string): string {
  const problem = pathProblem(path);
  if (problem) throw failure('InvalidInput', `"${shown(path)}" is no path of a file: ${problem}`);
  return path;
}

/** Git's two lines of identity come from this one name. */
export function checkAuthor(author: string): string {
  const problem = nameProblem(author);
  if (problem) throw failure('InvalidInput', `"${shown(author)}" is no author: ${problem}`);
  return author;
}

const shown = (text: string): string => text.replace(/[^\x20-\x7e]/g, '?').slice(0, 100);
