// The worker as the platform starts it, stopped during a job: no process of the job is left, and the next worker repeats the job.
import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { isAlive, processMarkSchema, type ProcessMark } from '../../activities/adapters/local-process/process-tree.ts';
import { superviseChild, type SupervisedChild } from '../../deploy/local/child.ts';
import { embeddedProcesses } from '../../deploy/local/processes.ts';
import { openStores } from '../../workers/wiring.ts';
import { defaultPolicy } from '../../workflows/domain/model.ts';
import { taskQueues, workflowId, type TrainingRunInput } from '../../workflows/messages.ts';
import { freshDatabase, temporalServer } from '../servers.ts';
import { openNamespace } from '../workflows/namespace.ts';
import { auditEntry } from '../workflows/passage.ts';
import { eventually, newHome, type TestHome } from './homes.ts';

test('Ctrl-C during a job: the worker exits, its job is stopped, and the next worker repeats it', async () => {
  // The job's wrapper waits for data from an API that accepts connections but never answers.
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const { port } = silent.address() as { port: number };
  const [{ address }, databaseUrl] = await Promise.all([temporalServer(), freshDatabase()]);
  const connection = await Connection.connect({ address });
  const namespace = `end-${randomUUID()}`;
  await openNamespace(connection, namespace);
  const home = await newHome({
    ...{ TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: namespace, DATABASE_URL: databaseUrl },
    OCDL_API_URL: `http://127.0.0.1:${port}`,
  });
  const started: { worker?: SupervisedChild; job?: ProcessMark } = {};
  try {
    const input = await training(home, databaseUrl);
    const worker = startWorker(home, address, databaseUrl);
    started.worker = worker;
    await worker.ready;
    const handle = await new Client({ connection, namespace }).workflow.start('trainingRun', {
      workflowId: workflowId.trainingRun(input),
      taskQueue: taskQueues.core,
      args: [input],
    });
    await eventually('the job', () => {
      started.job = markOf(home);
      return started.job !== undefined && isAlive(started.job);
    });
    await worker.stop();
    expect(started.job !== undefined && isAlive(started.job)).toBe(false);
    // A killed worker would have left the job's data; the log is continued by the next worker.
    const [folder, ...others] = readdirSync(join(home.home, 'jobs'));
    expect(others).toEqual([]);
    expect(readdirSync(join(home.home, 'jobs', folder ?? '')).sort()).toEqual(['log', 'started']);
    const { status, raw } = await handle.describe();
    expect(status.name).toBe('RUNNING');
    expect(raw.pendingActivities?.map(({ activityType }) => activityType?.name)).toEqual(['runTraining']);
  } finally {
    await started.worker?.stop();
    if (started.job !== undefined && isAlive(started.job)) process.kill(started.job.pid, 'SIGKILL');
    silent.close();
    await connection.close();
    await home.remove();
  }
}, 300_000);

/** Creates a project with training code, and a run. */
async function training({ home }: TestHome, databaseUrl: string): Promise<TrainingRunInput> {
  const stores = await openStores({ home, databaseUrl });
  try {
    const project = { project: 'p', types: ['kind'], policy: defaultPolicy };
    await stores.records.createProject(project, auditEntry('project.created'));
    const repository = 'p/code';
    await stores.code.ensure(repository);
    const lock = readFileSync('deploy/capsule/requirements.lock');
    const files = { 'train.py': 'raise SystemExit(1)\n', 'requirements.lock': lock };
    const { commit } = await stores.code.commit({ repository, branch: 'main', files, message: 'train', author: 'sam' });
    const input: TrainingRunInput = {
      ...{ project: 'p', model: 'm', submission: 'rf-1', attempt: 1, author: 'sam' },
      spec: {
        ...{ code: { repository, commit }, entrypoint: 'train.py', lock: 'requirements.lock', data: [] },
        ...{ parameters: {}, seed: 0, compute: 'cpu', deadlineSeconds: 600 },
      },
    };
    await stores.records.recordStart(
      {
        ...{ workflowId: workflowId.trainingRun(input), type: 'trainingRun', input, askedBy: 'sam' },
        ...{ roles: ['scientist'], project: 'p' },
      },
      auditEntry('run.started'),
      [],
    );
    return input;
  } finally {
    await stores.close();
  }
}

function startWorker({ home, settings, lines }: TestHome, temporalAddress: string, databaseUrl: string) {
  const ports = { api: 0, ui: 0, temporal: 0 };
  const programs = embeddedProcesses.programs({ settings, ports, temporalAddress, temporalUiUrl: '', databaseUrl });
  const spec = programs.find(({ name }) => name === 'worker');
  if (spec === undefined) throw new Error('the platform has no worker');
  const folders = { run: join(home, 'run'), logs: join(home, 'logs') };
  for (const folder of Object.values(folders)) mkdirSync(folder, { recursive: true });
  const say = (line: string): void => void lines.push(line);
  return superviseChild(spec, { home: folders, verbose: false, say, onGivenUp: ({ message }) => say(message) });
}

/** The process of a home's only job. */
function markOf({ home }: TestHome): ProcessMark | undefined {
  try {
    const [job = ''] = readdirSync(join(home, 'jobs'));
    return processMarkSchema.parse(JSON.parse(readFileSync(join(home, 'jobs', job, 'pid'), 'utf8')));
  } catch {
    return undefined;
  }
}
