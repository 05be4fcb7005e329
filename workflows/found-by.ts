// What people find a workflow by: its search attributes, kept current until it ends.
import { patched, upsertSearchAttributes } from '@temporalio/workflow';
import { searchAttributes } from './messages.ts';

type TextAttribute = 'Project' | 'Model' | 'ModelType' | 'Application' | 'Author' | 'State';
export type FoundBy = Readonly<Partial<Record<TextAttribute, string>>>;

/** The attributes as Temporal takes them. */
export const attributePairs = (of: FoundBy) =>
  (Object.keys(of) as TextAttribute[]).flatMap((name) => {
    const value = of[name];
    return value === undefined ? [] : [{ key: searchAttributes[name], value }];
  });

/** Runs that began before they kept these attributes have no such commands in their histories. */
const isKept = (): boolean => patched('found-by-state');

/** Returns what sets attributes, each when it changes. To be called once, where a workflow begins. */
export function openFinding(): (found: FoundBy) => void {
  const keeps = isKept();
  const known: Partial<Record<TextAttribute, string>> = {};
  return (found) => {
    const changed = attributePairs(found).filter(({ key, value }) => known[key.name as TextAttribute] !== value);
    if (!keeps || changed.length === 0) return;
    upsertSearchAttributes(changed);
    Object.assign(known, found);
  };
}
