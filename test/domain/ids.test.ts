// Ids of workflows: each maker has its inverse, and no id of another form is taken for one.
import { parseWorkflowId, partsOf, workflowId } from '../../workflows/domain/ids.ts';

const of = {
  ...{ project: 'p', model: 'm', submission: 's', attempt: 2, evaluation: 'e', release: 'kind-1' },
  ...{ application: 'shop', type: 'kind', scan: 'scan-1', import: 'im-1' },
};

it.each(Object.entries(workflowId))('of %s says which workflow it is, and of what', (workflow, make) => {
  const id = make(of);
  const parsed = parseWorkflowId(id);
  expect(parsed?.workflow).toBe(workflow);
  const given = Object.fromEntries(Object.entries(of).map(([key, value]) => [key, String(value)]));
  expect(given).toMatchObject(parsed?.of ?? {});
  // Nothing that it is made of is lost: the same parts make the same id.
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
])('"%s" is none', (id) => {
  expect(parseWorkflowId(id)).toBeUndefined();
});

it('of one workflow are not taken for those of another', () => {
  expect(partsOf('model/p/m/s', 'modelLifecycle', 'project', 'submission')).toEqual({ project: 'p', submission: 's' });
  expect(() => partsOf('model/p/m/s', 'application', 'application')).toThrow('not the id of a workflow of type');
  expect(() => partsOf('nonsense', 'modelLifecycle', 'project')).toThrow('"nonsense"');
});
