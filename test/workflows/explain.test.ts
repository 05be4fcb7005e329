// Failures as people read them, also those that an activity ends with when its time or its attempts are used up.
import {
  ActivityFailure,
  ApplicationFailure,
  DefaultFailureConverter,
  defaultPayloadConverter,
} from '@temporalio/common';
import { pausedError } from '../../activities/installation.ts';
import { explain } from '../../workflows/explain.ts';

const converter = new DefaultFailureConverter();
const paused = pausedError({ since: '2026-01-01T00:00:00.000Z', findings: [] });

/** An activity's failure as a workflow gets it: encoded by the worker and the server, then decoded. */
function asWorkflowsSee(last: Error, how: 'attempts' | 'deadline'): unknown {
  const cause = converter.errorToFailure(last, defaultPayloadConverter);
  const timeout = { message: 'activity ScheduleToClose timeout', cause, timeoutFailureInfo: { timeoutType: 3 } };
  return converter.failureToError(
    {
      message: 'Activity task failed',
      activityFailureInfo: { activityType: { name: 'publishRelease' }, activityId: '1' },
      cause: how === 'deadline' ? timeout : cause,
    },
    defaultPayloadConverter,
  );
}

it.each(['attempts', 'deadline'] as const)('an activity that waited for a restore has not failed (%s)', (how) => {
  const failure = asWorkflowsSee(paused, how);
  expect(failure).toBeInstanceOf(ActivityFailure);
  expect(explain(failure)).toEqual({ type: 'Restored', message: paused.message });
});

it('a deadline names the failure of the last attempt', () => {
  const last = ApplicationFailure.create({ type: 'SystemUnavailable', message: 'S3 refuses the connection' });
  expect(explain(asWorkflowsSee(last, 'deadline'))).toEqual({
    type: 'Unavailable',
    message: 'deadline exceeded without success: S3 refuses the connection',
  });
});

it('a final failure keeps its type', () => {
  const last = ApplicationFailure.nonRetryable('release kind-1 was withdrawn', 'Fenced');
  expect(explain(asWorkflowsSee(last, 'attempts'))).toEqual({
    type: 'Fenced',
    message: 'release kind-1 was withdrawn',
  });
});
