// Temporal's payload converter with one change: an undecodable signal or query argument, which anyone with access to the
// Temporal port can send, becomes a value that every parser refuses. With the default converter it would fail the workflow task
// again and again, and the version would hang. For results of activities and children the converter still throws. CommonJS,
// since the Temporal worker loads it with `require`.
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
