// Workflow ids: each maker has its inverse, and other texts are not parsed as ids.
import { parseWorkflowId, partsOf, workflowId } from '../../workflows/domain/ids.ts';

const of = {
  ...{ project: 'p', model: 'm', submission: 's', attempt: 2, evaluation: 'e', release: 'kind-1' },
  ...{ application: 'shop', type: 'kind', scan: 'scan-1', import: 'im-1' },
};

it.each(Object.entries(workflowId))('of %s names its workflow and its parts', (workflow, make) => {
  const id = make(of);
  const parsed = parseWorkflowId(id);
  expect(parsed?.workflow).toBe(workflow);
  const given = Object.fromEntries(Object.entries(of).map(([key, value]) => [key, String(value)]));
  expect(given).toMatchObject(parsed?.of ?? {});
  // No part is lost: the parsed parts make the same id.
  expect(make(parsed?.of as never)).toBe(id);
});

it('differ for every workflow', () => {
  const ids = Object.values(workflowId).map((make) => make(of));
  expect(new Set(ids).size).toBe(ids.length);
});

it.each([
  '',
  'model',
  'model/p/m',
  'model/p/m/s/more',
  'Model/p/m/s',
  'constructor/a',
  '__proto__/a',
  'p/m/s',
  '/p/m/s',
])('"%s" is not a workflow id', (id) => {
  expect(parseWorkflowId(id)).toBeUndefined();
});

it('of one workflow are not accepted for another', () => {
  expect(partsOf('model/p/m/s', 'modelLifecycle', 'project', 'submission')).toEqual({ project: 'p', submission: 's' });
  expect(() => partsOf('model/p/m/s', 'application', 'application')).toThrow('not the id of a workflow of type');
  expect(() => partsOf('nonsense', 'modelLifecycle', 'project')).toThrow('"nonsense"');
});
