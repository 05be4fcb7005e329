// Registers the search attributes that the workflows set, on any Temporal server.
import type { Connection } from '@temporalio/client';
import { searchAttributes as keys } from '../workflows/messages.ts';

type AttributeType = 'KEYWORD' | 'INT' | 'KEYWORD_LIST';
export const searchAttributes: Record<string, AttributeType> = Object.fromEntries(
  Object.values(keys).map(({ name, type }) => [name, type]),
);

// Values of temporal.api.enums.v1.IndexedValueType.
const wireTypes = { KEYWORD: 2, INT: 3, KEYWORD_LIST: 7 } as const satisfies Record<AttributeType, number>;

/** Registers missing search attributes; throws if a name exists with another type. */
export async function ensureSearchAttributes(
  connection: Pick<Connection, 'operatorService'>,
  namespace: string,
): Promise<void> {
  const { customAttributes } = await connection.operatorService.listSearchAttributes({ namespace });
  const missing: Record<string, number> = {};
  for (const [name, type] of Object.entries(searchAttributes)) {
    const present: number | null | undefined = customAttributes[name];
    if (present === undefined) missing[name] = wireTypes[type];
    else if (present !== wireTypes[type]) {
      throw new Error(
        `Search attribute ${name} of Temporal namespace ${namespace} does not have the type ${type}: remove or rename it there.`,
      );
    }
  }
  if (Object.keys(missing).length === 0) return;
  await connection.operatorService.addSearchAttributes({ namespace, searchAttributes: missing });
}
