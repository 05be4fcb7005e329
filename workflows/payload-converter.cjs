// Temporal's payload converter, but a payload that comes to a running workflow from outside (a signal or query argument, which
// anyone with access to the Temporal port can send) and cannot be decoded becomes a value that every parser refuses. With the
// default one it would fail the workflow task, again and again, and the version would hang. In results of activities and
// children it throws as before. CommonJS, since the Temporal worker loads it by `require`.
const { defaultPayloadConverter } = require('@temporalio/common');
const { inWorkflowContext, workflowInfo } = require('@temporalio/workflow');

const isFromOutside = (context) =>
  context?.type === 'workflow' && inWorkflowContext() && workflowInfo().workflowId === context.workflowId;

exports.payloadConverter = {
  toPayload: (value, context, hint) => defaultPayloadConverter.toPayload(value, context, hint),
  fromPayload(payload, context, hint) {
    try {
      return defaultPayloadConverter.fromPayload(payload, context, hint);
    } catch (error) {
      if (isFromOutside(context)) return { undecodable: true };
      throw error;
    }
  },
};
