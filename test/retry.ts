// In CI a failed test of many real servers on a shared machine runs once more; that it failed is printed all the same.
import { jest } from '@jest/globals';

if (process.env.CI === 'true') jest.retryTimes(1, { logErrorsBeforeRetry: true });
